"""Which of the plans that were tried out get their final weights before one of them is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.driver.weighing import Weighing
from qcompiler.quant.choices import Choices
from qcompiler.report.search import PlanPoint

IN_REACH = 1.25  # a plan whose quick weights lose more than so much of the best one's has no chance


@dataclass(frozen=True)
class Tried:
    """A plan that was tried out with quick weights.

    Attributes:
        choices: The plan.
        weighing: What it was found with.
        point: What was measured.
    """

    choices: Choices
    weighing: Weighing
    point: PlanPoint


def finals(tried: Sequence[Tried], count: int) -> list[Tried]:
    """The best of all, and the most cautious one: uniform widths gain nothing by luck.

    Args:
        tried: All plans, at least one.
        count: How many to take at most.

    Returns:
        The plans, that of the least loss first.
    """
    best = sorted(tried, key=lambda item: item.point.loss)
    near = [item for item in best if item.point.loss <= IN_REACH * best[0].point.loss]
    careful = max(near, key=lambda item: item.weighing.caution)
    found = near[:count]
    if careful not in found and count > 1:
        found[-1] = careful
    return found
