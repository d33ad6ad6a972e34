"""The integer program: one choice per layer, least total cost, under limits of bit operations, bytes and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from qcompiler.allocation.quiet import quiet_stdout
from qcompiler.errors import BudgetError

TOLERANCE = 1e-9  # of a limit: what float arithmetic may add to a plan that meets it exactly
TIME_TOLERANCE = 1e-5  # of the time limit: no measurement is that exact, and the solver's own tolerance lies below
GAP = 1e-3  # relative distance to the optimum that the solver may leave; losses are measured to some percent
RATIO_STEPS = 16  # towards the least bookkeeping; each one is closer, few are ever needed


@dataclass(frozen=True)
class Choice:
    """One way to run one layer.

    Attributes:
        cost: Predicted loss.
        products: Bit operations of its integer products per image.
        bookkeeping: Bit operations of scales, ranges and groups per image.
        bytes: Size of its weights in the file.
        time: How long it takes, as a fraction of the float model's time for one image.
    """

    cost: float
    products: int
    bookkeeping: int
    bytes: int
    time: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What a plan may cost.

    Attributes:
        products: Bit operations of all products together; infinity for no limit.
        overhead: Bookkeeping as a fraction of the products that are chosen; infinity for no limit.
        bytes: Size of all weights together; None for no limit.
        time: Time of the whole model as a fraction of the float model's; None for no limit.
        constant_time: What of that time no choice changes.
    """

    products: float
    overhead: float
    bytes: int | None = None
    time: float | None = None
    constant_time: float = 0.0

    @property
    def choice_time(self) -> float:
        """What is left for the choices; infinity for no limit."""
        return math.inf if self.time is None else self.time - self.constant_time

    def met_by(self, choices: Sequence[Choice]) -> bool:
        """Whether these choices, one per layer, stay within the limits."""
        products = sum(choice.products for choice in choices)
        bookkeeping = sum(choice.bookkeeping for choice in choices)
        size = sum(choice.bytes for choice in choices)
        time = math.fsum(choice.time for choice in choices)
        return (
            products <= self.products * (1 + TOLERANCE)
            and bookkeeping <= self.overhead * products * (1 + TOLERANCE)
            and (self.bytes is None or size <= self.bytes)
            and (self.time is None or time <= self.choice_time + TIME_TOLERANCE * self.time)
        )


Options = Mapping[str, Sequence[Choice]]


def solve(options: Options, limits: Limits) -> dict[str, int]:
    """The cheapest plan within the limits.

    Widths enter as one-hot variables, so the product of two widths is a constant of each choice and the published
    quadratic form becomes linear.

    Args:
        options: Choices of each layer, at least one each.
        limits: What the plan may cost.

    Returns:
        Index of the chosen option of each layer. Equal input gives an equal plan.

    Raises:
        BudgetError: No plan meets the limits; the message names the smallest limit that can be met.
    """
    _refuse_impossible(options, limits)
    # The solver's gap is also absolute (1e-6): against the least costs, not the largest, it stays small.
    least = sum(min(choice.cost for choice in choices) for choices in options.values())
    largest = max((choice.cost for choices in options.values() for choice in choices), default=0.0)
    scale = max(least, 1e-7 * largest) or 1.0
    found = _minimise(options, limits, lambda choice: choice.cost / scale)
    if found is None:
        raise BudgetError(_shortfall(options, limits))
    return found


def _minimise(options: Options, limits: Limits, cost: Callable[[Choice], float]) -> dict[str, int] | None:
    """The plan of least cost within the limits; None where there is none."""
    kept = {name: _undominated(choices, limits, cost) for name, choices in options.items()}
    flat = [(name, index) for name, indices in kept.items() for index in indices]
    chosen = [options[name][index] for name, index in flat]
    rows = {name: row for row, name in enumerate(kept)}
    owner = [rows[name] for name, _ in flat]
    one_each = csr_matrix((np.ones(len(flat)), (owner, range(len(flat)))), shape=(len(rows), len(flat)))
    constraints = [LinearConstraint(one_each, 1, 1), *_limit_rows(chosen, limits)]
    while True:
        with quiet_stdout():
            solution = milp(
                np.array([cost(choice) for choice in chosen]),
                integrality=np.ones(len(flat)),
                bounds=Bounds(0, 1),
                constraints=constraints,
                options={"mip_rel_gap": GAP},
            )
        if solution.x is None:
            return None
        taken = np.flatnonzero(solution.x > 0.5)
        if limits.met_by([chosen[i] for i in taken]):
            return {flat[i][0]: flat[i][1] for i in taken}
        # Over a limit by less than the solver's tolerance: forbid this one combination.
        forbidden = np.zeros((1, len(flat)))
        forbidden[0, taken] = 1
        constraints.append(LinearConstraint(forbidden, ub=len(taken) - 1))


def _limit_rows(choices: Sequence[Choice], limits: Limits) -> list[LinearConstraint]:
    products = np.array([choice.products for choice in choices], float)
    bookkeeping = np.array([choice.bookkeeping for choice in choices], float)
    rows = []
    whole = limits.products if math.isfinite(limits.products) else float(products.sum())
    whole = max(whole, 1.0)
    if math.isfinite(limits.products):
        rows.append(LinearConstraint(products[None, :] / whole, ub=1))
    if math.isfinite(limits.overhead):
        rows.append(LinearConstraint((bookkeeping - limits.overhead * products)[None, :] / whole, ub=0))
    if limits.bytes is not None:
        size = np.array([choice.bytes for choice in choices], float)
        rows.append(LinearConstraint(size[None, :] / max(limits.bytes, 1), ub=1))
    if limits.time is not None:
        time = np.array([choice.time for choice in choices])
        rows.append(LinearConstraint(time[None, :] / limits.time, ub=limits.choice_time / limits.time))
    return rows


def _undominated(choices: Sequence[Choice], limits: Limits, cost: Callable[[Choice], float]) -> list[int]:
    """Indices of the choices that no other one beats in every respect that counts; the first of equal ones stays."""
    columns: list[list[float]] = [[cost(c) for c in choices], [c.products for c in choices]]
    if math.isfinite(limits.overhead):
        columns.append([c.bookkeeping - limits.overhead * c.products for c in choices])
    if limits.bytes is not None:
        columns.append([c.bytes for c in choices])
    if limits.time is not None:
        columns.append([c.time for c in choices])
    table = np.array(columns, dtype=np.float64).T
    kept: list[int] = []
    for index, row in enumerate(table):
        no_worse = np.all(table <= row, axis=1)
        better = no_worse & np.any(table < row, axis=1)
        earlier_equal = no_worse[:index] & np.all(table[:index] == row, axis=1)
        if not better.any() and not earlier_equal.any():
            kept.append(index)
    return kept


def _refuse_impossible(options: Options, limits: Limits) -> None:
    least = sum(min(choice.products for choice in choices) for choices in options.values())
    if least > limits.products * (1 + TOLERANCE):
        factor = math.ceil(least / limits.products * 1e4) / 1e4
        raise BudgetError(
            f"the cheapest widths need {least:,} bit operations and --bop-budget allows {int(limits.products):,}; "
            f"raise --bop-budget by a factor of {factor:g}"
        )
    if limits.bytes is not None:
        smallest = sum(min(choice.bytes for choice in choices) for choices in options.values())
        if smallest > limits.bytes:
            raise BudgetError(
                f"the smallest weights take {smallest:,} bytes and --size-budget leaves {max(limits.bytes, 0):,} for "
                "them; raise --size-budget"
            )


def _shortfall(options: Options, limits: Limits) -> str:
    """Which limit would have to give, where each can be met but not all together."""
    if limits.time is not None:
        plan = _minimise(options, replace(limits, time=None), lambda choice: choice.time)
        if plan is not None:
            fastest = math.fsum(options[name][index].time for name, index in plan.items())
            needed = math.ceil((limits.constant_time + fastest) * 1e4) / 1e4
            return (
                f"the fastest plan within the other budgets takes {needed:g} of the float model's time and "
                f"--latency-budget allows {limits.time:g}; give --latency-budget {needed:g} or more"
            )
        limits = replace(limits, time=None)
    overhead = least_overhead(options, limits)
    if overhead is None:
        return (
            f"no plan of at most {limits.products:,.0f} bit operations has weights of at most {limits.bytes:,} "
            "bytes; raise --bop-budget or --size-budget"
        )
    return (
        f"the bookkeeping takes at least {overhead:g} of the products and --overhead-budget allows "
        f"{limits.overhead:g}; give --overhead-budget {overhead:g} or more"
    )


def least_overhead(options: Options, limits: Limits) -> float | None:
    """Bookkeeping over products of the plan where it is least, rounded up to four places, within the other limits.

    None where no plan is within them. Dinkelbach's method: the ratio of a plan is least where no plan has a negative
    ``bookkeeping - ratio * products``.
    """
    others = replace(limits, overhead=math.inf)
    ratio, best = 0.0, math.inf
    largest = sum(max(choice.products for choice in choices) for choices in options.values())
    whole = max(limits.products if math.isfinite(limits.products) else largest, 1.0)
    for _ in range(RATIO_STEPS):
        plan = _minimise(options, others, partial(_excess, ratio=ratio, whole=whole))
        if plan is None:
            return None
        taken = [options[name][index] for name, index in plan.items()]
        ratio = sum(choice.bookkeeping for choice in taken) / sum(choice.products for choice in taken)
        if ratio >= best:
            break
        best = ratio
    return math.ceil(best * 1e4) / 1e4


def _excess(choice: Choice, ratio: float, whole: float) -> float:
    return (choice.bookkeeping - ratio * choice.products) / whole
