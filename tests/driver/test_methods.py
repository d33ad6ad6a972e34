"""What each method searches, and around which widths."""

import pytest

from qcompiler.allocation.widths import LayerProduct
from qcompiler.driver.methods import method_of
from qcompiler.errors import BudgetError, OptionError
from qcompiler.options import CompileOptions
from qcompiler.quant.bops import ProductShape
from qcompiler.quant.choices import BLOCKS, GROUPS
from qcompiler.quant.plan import Widths

PRODUCTS = [
    LayerProduct("fc", ProductShape(197, 192, 768), weights=True),
    LayerProduct("attn", ProductShape(197, 64, 197, 3), weights=False),
]


def method(**options):
    return method_of(CompileOptions(**options), PRODUCTS)


def test_auto_measures_and_refines():
    found = method()
    assert (found.relevance, found.sensitivity, found.refine, found.exhaustive) == (False, True, True, False)
    assert found.centre == Widths(4, 4)
    assert 4 in found.space.weight_widths and 4 in found.space.activation_widths
    assert any(scheme.block > 0 for scheme in found.space.schemes)
    assert any(found.space.weight_blocks)


def test_low_effort_estimates_from_relevance():
    found = method(effort="low")
    assert (found.relevance, found.sensitivity) == (True, False)
    assert set(found.space.weight_widths) <= set(method().space.weight_widths)
    assert len(list(found.space.schemes)) < len(list(method().space.schemes))


def test_strict_bits_leave_out_blocks():
    space = method(strict_bits=True).space
    assert space.weight_blocks == (0,)
    assert {scheme.block for scheme in space.schemes} == {0}
    assert {scheme.scheme for scheme in space.schemes} == {BLOCKS, GROUPS}  # whole tokens, and groups


@pytest.mark.parametrize(("name", "measured"), [("mixq", True), ("lrp", False)])
def test_methods_by_relevance(name, measured):
    found = method(method=name)
    assert (found.relevance, found.sensitivity, found.refine) == (True, measured, True)
    assert found.space.folded
    assert {(scheme.groups, scheme.block) for scheme in found.space.schemes} == {(1, 0)}
    assert found.space.weight_blocks == (0,)
    assert len(found.space.weight_widths) > 1


@pytest.mark.parametrize(("budget", "expected"), [(None, Widths(4, 4)), (0.6, Widths(6, 6)), (0.5, Widths(4, 8))])
def test_igq_has_uniform_widths_and_chooses_groups(budget, expected):
    products = [PRODUCTS[0]]
    found = method_of(CompileOptions(method="igq", bop_budget=budget, group_candidates=(1, 5)), products)
    assert found.centre == expected
    assert (found.space.weight_widths, found.space.activation_widths) == ((expected.weight,), (expected.activation,))
    assert [(scheme.scheme, scheme.groups) for scheme in found.space.schemes] == [(GROUPS, 1), (GROUPS, 5)]
    assert (found.space.attention, found.space.attention_groups) == (GROUPS, (1, 5))
    assert found.exhaustive


@pytest.mark.parametrize("name", ["auto", "igq", "mixq", "lrp"])
def test_fixed_widths(name):
    found = method(method=name, bits="w3a5")
    assert found.centre == Widths(3, 5)
    assert (found.space.weight_widths, found.space.activation_widths) == ((3,), (5,))


@pytest.mark.parametrize(("budget", "centre"), [(0.07, 2), (0.1407, 3), (0.3, 4), (0.5625, 6), (1.0, 8)])
@pytest.mark.parametrize("name", ["auto", "mixq", "lrp"])
def test_the_centre_is_what_the_budget_pays_for(name, budget, centre):
    found = method(method=name, bop_budget=budget)
    assert found.centre == Widths(centre, centre)
    assert min(found.space.weight_widths) ** 2 <= 64 * budget * (1 + 1e-9)
    assert max(found.space.activation_widths) > centre or centre == 8


@pytest.mark.parametrize("budget", [0.25, 0.5625, 1.0])
def test_a_size_budget_needs_narrow_weights(budget):
    """However wide the products may be: only up to 4 bits two weights share a byte."""
    limited, free = method(bop_budget=budget, size_budget=0.2).space, method(bop_budget=budget).space
    assert min(limited.weight_widths) <= 4
    assert set(free.weight_widths) <= set(limited.weight_widths)
    assert limited.activation_widths == free.activation_widths


@pytest.mark.parametrize(("name", "cheapest"), [("auto", "0.0625"), ("mixq", "0.0625"), ("igq", "0.1407")])
def test_budgets_below_the_cheapest_widths(name, cheapest):
    with pytest.raises(BudgetError, match=f"give --bop-budget {cheapest} or more"):
        method(method=name, bop_budget=0.06)
    method(method=name, bop_budget=float(cheapest))


def test_widths_that_cannot_be_read():
    with pytest.raises(OptionError, match="not of the form"):
        method(bits="int4")
