"""The integer program against all combinations."""

import itertools
import re

import numpy as np
import pytest

from qcompiler.allocation.group_counts import GroupChoice, choose_group_counts
from qcompiler.errors import BudgetError

COUNTS = (1, 4, 8, 16)
# HiGHS stops at a relative gap of 1e-4.
GAP = 1e-4


def random_options(seed, quantizers=5):
    """Discrepancies over several orders of magnitude; more groups mostly, but not always, help."""
    draw = np.random.default_rng(seed)

    def choice(groups):
        discrepancy = draw.exponential() * 10.0 ** draw.uniform(-6, 0) / groups
        return GroupChoice(groups, float(discrepancy), int(groups * draw.integers(1e5, 1e7)))

    return {f"layer{i}:input": [choice(g) for g in COUNTS[: draw.integers(1, 5)]] for i in range(quantizers)}


def costs(chosen):
    return sum(choice.discrepancy for choice in chosen), sum(choice.bookkeeping for choice in chosen)


def cheapest(options):
    return sum(min(choice.bookkeeping for choice in choices) for choices in options.values())


def dearest(options):
    return sum(max(choice.bookkeeping for choice in choices) for choices in options.values())


@pytest.mark.parametrize("seed", range(25))
def test_the_best_of_all_combinations(seed):
    options = random_options(seed)
    share = np.random.default_rng(seed).uniform()
    budget = int(cheapest(options) + share * (dearest(options) - cheapest(options)))
    found = choose_group_counts(options, budget)
    assert list(found) == list(options)
    assert all(found[name] in choices for name, choices in options.items())
    discrepancy, bookkeeping = costs(found.values())
    assert bookkeeping <= budget
    least = min(d for d, b in map(costs, itertools.product(*options.values())) if b <= budget)
    assert discrepancy <= least * (1 + GAP)


@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_choice_just_fits(seed):
    options = random_options(seed)
    found = choose_group_counts(options, cheapest(options))
    assert costs(found.values())[1] == cheapest(options)


def test_money_is_no_object():
    options = random_options(3)
    found = choose_group_counts(options, 10 * dearest(options))
    for name, choices in options.items():
        assert found[name].discrepancy == min(choice.discrepancy for choice in choices)


def test_one_layer_gets_what_helps_most():
    """Room for one upgrade: it goes where the discrepancy falls most per whole, not to the first layer."""
    options = {
        "first": [GroupChoice(1, 1.0, 0), GroupChoice(8, 0.9, 100)],
        "second": [GroupChoice(1, 1.0, 0), GroupChoice(8, 0.2, 100)],
    }
    found = choose_group_counts(options, 199)
    assert [choice.groups for choice in found.values()] == [1, 8]


def test_the_budget_is_kept_to_the_last_bit_operation():
    billion = 10**9
    options = {"a": [GroupChoice(1, 1.0, 0), GroupChoice(4, 0.5, billion + 1)]}
    assert choose_group_counts(options, billion)["a"].groups == 1
    assert choose_group_counts(options, billion + 1)["a"].groups == 4


def test_a_tie_goes_to_fewer_groups():
    options = {
        "a": [GroupChoice(16, 0.5, 10), GroupChoice(4, 0.5, 5), GroupChoice(1, 1.0, 0)],
        "b": [GroupChoice(8, 0.2, 3), GroupChoice(4, 0.2, 3)],
    }
    assert [choice.groups for choice in choose_group_counts(options, 1000).values()] == [4, 4]


def test_nothing_helps():
    options = {"a": [GroupChoice(1, 0.0, 0), GroupChoice(4, 0.0, 5)]}
    assert choose_group_counts(options, 5)["a"].discrepancy == 0


def test_an_impossible_budget():
    options = {"a": [GroupChoice(1, 1.0, 1004)], "b": [GroupChoice(1, 1.0, 1000), GroupChoice(2, 0.0, 5000)]}
    with pytest.raises(BudgetError, match=r"2,004 bit operations.*allows 2,003"):
        choose_group_counts(options, 2003)
    assert len(choose_group_counts(options, 2004)) == 2


@pytest.mark.parametrize(("needed", "budget"), [(1004, 100), (2, 1), (123_457, 1000), (10_001, 10_000)])
def test_an_impossible_budget_names_a_factor_that_works(needed, budget):
    options = {"a": [GroupChoice(1, 1.0, needed)]}
    with pytest.raises(BudgetError) as caught:
        choose_group_counts(options, budget)
    factor = float(re.search(r"by a factor of (\S+)", str(caught.value))[1])
    assert choose_group_counts(options, int(budget * factor))["a"].bookkeeping == needed
