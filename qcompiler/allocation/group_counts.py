"""Group counts by integer program: the least total discrepancy whose bookkeeping fits the overhead budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from qcompiler.errors import BudgetError


@dataclass(frozen=True)
class GroupChoice:
    """One option of one quantizer: so many groups, at this discrepancy and this bookkeeping.

    Attributes:
        groups: Number of groups.
        discrepancy: Mean KL divergence of the prediction when this quantizer alone runs with so many groups.
        bookkeeping: Bit operations of ranges, assignment and rescaling per image.
    """

    groups: int
    discrepancy: float
    bookkeeping: int


def choose_group_counts(options: Mapping[str, Sequence[GroupChoice]], budget: int) -> dict[str, GroupChoice]:
    """One option per quantizer, minimising the summed discrepancy under the bookkeeping budget (IGQ-ViT's objective).

    Args:
        options: Options of each quantizer, at least one each.
        budget: Bit operations that all bookkeeping together may cost.

    Returns:
        The chosen option of each quantizer.

    Raises:
        BudgetError: Even the cheapest options exceed the budget; the message names what they need.
    """
    least = sum(min(option.bookkeeping for option in choices) for choices in options.values())
    if least > budget:
        raise BudgetError(
            f"the cheapest grouping needs {least:,} bit operations of bookkeeping "
            f"and --overhead-budget allows {budget:,}; "
            f"raise --overhead-budget by a factor of {math.ceil(least / max(budget, 1) * 1000 + 1) / 1000:g}"
        )
    names = [name for name, choices in options.items() for _ in choices]
    flat = [option for choices in options.values() for option in choices]
    rows = {name: row for row, name in enumerate(options)}
    one_each = lil_matrix((len(rows), len(flat)))
    for column, name in enumerate(names):
        one_each[rows[name], column] = 1
    # Scaled to around 1: the solver's tolerances are absolute.
    cost = np.array([option.discrepancy for option in flat])
    cost = cost / (np.abs(cost).max() or 1.0)
    weight = np.array([option.bookkeeping for option in flat], float) / max(budget, 1)
    constraints = [LinearConstraint(one_each.tocsr(), 1, 1), LinearConstraint(weight[None, :], ub=1)]
    while True:
        solution = milp(
            cost,
            integrality=np.ones(len(flat)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0},
        )
        if solution.x is None:
            raise BudgetError(f"the solver found no group counts within --overhead-budget ({solution.message})")
        taken = np.flatnonzero(solution.x > 0.5)
        if sum(flat[i].bookkeeping for i in taken) <= budget:
            break
        # Over the budget by less than the solver's tolerance: forbid this one combination.
        forbidden = np.zeros((1, len(flat)))
        forbidden[0, taken] = 1
        constraints.append(LinearConstraint(forbidden, ub=len(taken) - 1))
    return {names[i]: _cheapest_equal(flat[i], options[names[i]]) for i in taken}


def _cheapest_equal(chosen: GroupChoice, choices: Sequence[GroupChoice]) -> GroupChoice:
    """A tie goes to fewer groups."""
    equal = [
        option
        for option in choices
        if option.discrepancy <= chosen.discrepancy and option.bookkeeping <= chosen.bookkeeping
    ]
    return min(equal, key=lambda option: (option.discrepancy, option.groups))
