"""The integer program against every combination of small cases, and what it says where there is no plan."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.allocation.program import GAP, Choice, Limits, least_overhead, solve
from qcompiler.errors import BudgetError

COSTS = st.one_of(st.floats(0, 10), st.floats(-12, 1).map(lambda exponent: 10**exponent))
# Far enough apart for sums to be exact, and never within the tolerance of a limit without meeting it exactly.
TIMES = st.integers(0, 64).map(lambda parts: parts / 64)
CHOICES = st.builds(Choice, COSTS, st.integers(1, 1000), st.integers(0, 300), st.integers(0, 500), TIMES)
OPTIONS = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.lists(CHOICES, min_size=1, max_size=5), max_size=4)
MODELS = OPTIONS.filter(bool)
LIMITS = st.builds(
    Limits,
    st.one_of(st.just(math.inf), st.integers(1, 3000).map(float)),
    st.sampled_from([0.0, 0.05, 0.125, 0.3, 1.0, 10.0]),
    st.one_of(st.none(), st.integers(0, 2000)),
    st.one_of(st.none(), st.integers(1, 192).map(lambda parts: parts / 64)),
    st.integers(0, 32).map(lambda parts: parts / 64),
)


def combinations(options):
    """Every plan, as choices in the order of the layers."""
    return list(product(*options.values()))


def allowed(plan, limits):
    """In exact fractions, apart from the tolerance that is promised."""
    products = sum(choice.products for choice in plan)
    bookkeeping = sum(choice.bookkeeping for choice in plan)
    within = 1 + Fraction(1, 10**9)
    return (
        (math.isinf(limits.products) or products <= Fraction(limits.products) * within)
        and bookkeeping <= Fraction(limits.overhead) * products * within
        and (limits.bytes is None or sum(choice.bytes for choice in plan) <= limits.bytes)
        and within_time(plan, limits)
    )


def within_time(plan, limits):
    return limits.time is None or limits.constant_time + sum(choice.time for choice in plan) <= limits.time


def cost(plan):
    return math.fsum(choice.cost for choice in plan)


@settings(deadline=None, max_examples=150)
@given(MODELS, LIMITS)
def test_the_cheapest_plan_that_is_allowed(options, limits):
    plans = [plan for plan in combinations(options) if allowed(plan, limits)]
    if not plans:
        with pytest.raises(BudgetError):
            solve(options, limits)
        return
    taken = solve(options, limits)
    assert list(taken) == list(options)
    found = [options[name][index] for name, index in taken.items()]
    assert allowed(found, limits)
    best = min(map(cost, plans))
    # Each layer's least cost is a scale below which the solver does not look.
    scale = sum(min(choice.cost for choice in choices) for choices in options.values())
    largest = max(choice.cost for choices in options.values() for choice in choices)
    assert cost(found) <= best * (1 + 2 * GAP) + 1e-5 * scale + 1e-11 * largest


@settings(deadline=None, max_examples=50)
@given(MODELS, LIMITS)
def test_equal_input_gives_an_equal_plan(options, limits):
    def outcome():
        try:
            return solve({name: list(choices) for name, choices in options.items()}, replace(limits))
        except BudgetError as error:
            return str(error)

    assert outcome() == outcome()


def test_small_costs_are_told_apart_beside_a_huge_one():
    """A width that nobody takes must not hide what the others cost."""
    layers = {
        f"layer{number}": [Choice(1e6, 1, 0, 1), Choice(3e-5, 2, 0, 1), Choice(1e-5, 2, 0, 1), Choice(2e-5, 2, 0, 1)]
        for number in range(12)
    }
    assert set(solve(layers, Limits(24, 1.0)).values()) == {2}


def test_limits_that_are_met_exactly():
    options = {"a": [Choice(5, 10, 1, 7), Choice(1, 30, 3, 9)], "b": [Choice(5, 10, 1, 7), Choice(1, 30, 3, 9)]}
    assert solve(options, Limits(60, 0.1, 18)) == {"a": 1, "b": 1}
    for tighter in (Limits(59, 0.1, 18), Limits(60, 0.1, 17)):
        assert sorted(solve(options, tighter).values()) == [0, 1]
    with pytest.raises(BudgetError, match=r"give --overhead-budget 0\.1 or more"):
        solve(options, Limits(60, 0.0999, 18))


def test_a_fraction_of_a_limit_is_too_much():
    """Less than the solver's own tolerance of 1e-6 over the limit."""
    options = {"a": [Choice(1, 10**9, 0, 0), Choice(0, 2 * 10**9 + 100, 0, 0)], "b": [Choice(0, 10**9, 0, 0)]}
    assert solve(options, Limits(3.0e9 + 50, 1.0)) == {"a": 0, "b": 0}
    assert solve(options, Limits(3.0e9 + 100, 1.0)) == {"a": 1, "b": 0}


def test_too_few_products():
    with pytest.raises(BudgetError, match=r"need 300 bit operations and --bop-budget allows 200; .* factor of 1\.5$"):
        solve({"a": [Choice(1, 100, 0, 0)], "b": [Choice(1, 200, 0, 0), Choice(0, 400, 0, 0)]}, Limits(200, 1))


def test_too_few_bytes():
    options = {"a": [Choice(1, 100, 0, 1000)], "b": [Choice(1, 200, 0, 600), Choice(0, 400, 0, 500)]}
    with pytest.raises(BudgetError, match=r"take 1,500 bytes and --size-budget leaves 1,499 for them"):
        solve(options, Limits(1000, 1, 1499))
    with pytest.raises(BudgetError, match=r"leaves 0 for them"):
        solve(options, Limits(1000, 1, -5))
    with pytest.raises(BudgetError, match="no plan of at most 300 bit operations has weights of at most 1,500 bytes"):
        solve(options, Limits(300, 1, 1500))


@settings(deadline=None, max_examples=100)
@given(MODELS, LIMITS)
def test_the_least_overhead(options, limits):
    """Rounded up to four places, and enough."""
    others = replace(limits, overhead=math.inf)
    plans = [
        plan
        for plan in combinations(options)
        if sum(choice.products for choice in plan) <= limits.products
        and (limits.bytes is None or sum(choice.bytes for choice in plan) <= limits.bytes)
        and within_time(plan, limits)
    ]
    found = least_overhead(options, others)
    if not plans:
        assert found is None
        return
    least = min(sum(c.bookkeeping for c in plan) / sum(c.products for c in plan) for plan in plans)
    # The solver may stop 1e-6 of all products short of the best plan.
    whole = sum(max(c.products for c in choices) for choices in options.values())
    whole = whole if math.isinf(limits.products) else limits.products
    slack = 2e-6 * whole / min(sum(c.products for c in plan) for plan in plans) + 1e-4 * least
    assert least <= found <= least + 1.1e-4 + slack
    solve(options, replace(limits, overhead=found))


def test_the_message_names_an_overhead_that_is_enough():
    options = {"a": [Choice(1, 100, 40, 0), Choice(2, 50, 30, 0)], "b": [Choice(1, 100, 7, 0), Choice(0, 10, 7, 0)]}
    with pytest.raises(BudgetError) as caught:
        solve(options, Limits(200, 0.1))
    needed = float(re.search(r"give --overhead-budget (\S+) or more", str(caught.value))[1])
    assert needed == 0.235  # 47 of 200
    assert solve(options, Limits(200, needed)) == {"a": 0, "b": 0}


def test_time_limits_what_nothing_else_does():
    """The cheapest plan is the slowest; what no choice changes counts, too."""
    options = {
        "a": [Choice(0, 10, 0, 0, 0.5), Choice(1, 10, 0, 0, 0.25)],
        "b": [Choice(0, 10, 0, 0, 0.25), Choice(3, 10, 0, 0, 0.125)],
    }
    for allowed, wanted in ((0.875, (0, 0)), (0.874, (1, 0)), (0.625, (1, 0)), (0.624, (1, 1)), (0.5, (1, 1))):
        limits = Limits(math.inf, math.inf, time=allowed, constant_time=0.125)
        assert tuple(solve(options, limits).values()) == wanted
    with pytest.raises(
        BudgetError, match=r"the fastest plan .* takes 0\.5 of the float model's time and --latency-budget"
    ):
        solve(options, Limits(math.inf, math.inf, time=0.49, constant_time=0.125))


def test_a_fast_plan_that_another_limit_forbids():
    options = {"a": [Choice(0, 100, 0, 0, 0.1), Choice(0, 10, 0, 0, 0.3)], "b": [Choice(0, 10, 0, 0, 0.12345)]}
    assert solve(options, Limits(110, 1.0, time=0.25)) == {"a": 0, "b": 0}
    with pytest.raises(BudgetError, match=r"within the other budgets takes 0\.4235 of") as caught:
        solve(options, Limits(20, 1.0, time=0.25))
    needed = float(re.search(r"give --latency-budget (\S+) or more", str(caught.value))[1])
    assert solve(options, Limits(20, 1.0, time=needed)) == {"a": 1, "b": 0}
    with pytest.raises(BudgetError, match=r"--latency-budget 0\.4235 or more"):
        solve(options, Limits(20, 1.0, time=0.2))


def test_other_limits_are_named_where_time_is_not_the_problem():
    options = {"a": [Choice(0, 100, 50, 0, 0.1)]}
    with pytest.raises(BudgetError, match=r"--overhead-budget 0\.5 or more"):
        solve(options, Limits(math.inf, 0.25, time=0.5))


@settings(deadline=None, max_examples=50)
@given(MODELS, LIMITS, st.integers(1, 64).map(lambda parts: parts / 64))
def test_the_fraction_that_the_message_names_is_the_smallest(options, limits, time):
    plans = [plan for plan in combinations(options) if allowed(plan, replace(limits, time=None))]
    least = min((limits.constant_time + sum(choice.time for choice in plan) for plan in plans), default=0)
    if least <= time:
        return
    with pytest.raises(BudgetError) as caught:
        solve(options, replace(limits, time=time))
    found = float(re.search(r"give --latency-budget (\S+) or more", str(caught.value))[1])
    assert least <= found <= least * (1 + 2 * GAP) + 1.1e-4
    solve(options, replace(limits, time=found))
