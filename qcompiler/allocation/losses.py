"""Predicted losses of all candidates of one operand, from the few that were measured.

Within one operand the loss grows as the squared error does. The measured losses therefore say what a unit of error
costs, and errors, which need no run of the model, say the rest. A loss that was measured on a few images is no better
than that: on other images it is found a third higher or lower, so that all measurements of an operand together say more
about a candidate than its own. Families of quantizers err in different places, but little enough that a family needs
several measurements to have a rate of its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

from qcompiler.relevance.jobs import Measured

LEAST = 1e-12  # of a loss or an error: measurements that vanish in rounding still count as small
COMMON = 4  # measurements of its own at which a family's rate is half its own and half that of all


def predicted_losses(
    errors: Sequence[float], measured: Mapping[int, Measured], families: Sequence[Hashable] | None = None
) -> list[float]:
    """KL divergences in nats, one per candidate: its error times the rate of its family.

    Args:
        errors: Relative squared error of every candidate.
        measured: Measurements by the index of the candidate, at least one.
        families: Family of every candidate, None for one of all. The rate of a family is the geometric mean of its
            measurements and of ``COMMON`` more that agree with the geometric mean of all.
    """
    names = [None] * len(errors) if families is None else list(families)
    logarithms = {index: _log_rate(errors[index], found.kl) for index, found in _telling(errors, measured).items()}
    common = _mean(logarithms.values())
    rates = {
        name: math.exp(_mean([*[common] * COMMON, *(rate for i, rate in logarithms.items() if names[i] == name)]))
        for name in set(names)
    }
    return [rates[name] * error for name, error in zip(names, errors, strict=True)]


def _telling(errors: Sequence[float], measured: Mapping[int, Measured]) -> Mapping[int, Measured]:
    """Measurements that did not vanish in rounding; all of them where none is left."""
    return {i: found for i, found in measured.items() if found.kl > LEAST and errors[i] > LEAST} or measured


def _log_rate(error: float, loss: float) -> float:
    return math.log(max(loss, LEAST) / max(error, LEAST))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def relevance_losses(errors: Sequence[float], relevance: float) -> list[float]:
    """Where nothing is measured an error costs as much as its layer is relevant (the idea of LRP-QViT)."""
    return [max(relevance, LEAST) * error for error in errors]
