"""Uniform widths: fractions by hand, and budgets fed back from the error message."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qcompiler.allocation.widths import (
    UNIFORM_WIDTHS,
    LayerProduct,
    choose_uniform,
    fraction_of_w8a8,
    parse_widths,
)
from qcompiler.errors import BudgetError, OptionError
from qcompiler.quant.bops import ProductShape
from qcompiler.quant.plan import Widths

# 10 multiply-accumulates with weights, 30 between activations.
MIXED = (
    LayerProduct("fc", ProductShape(1, 2, 5), weights=True),
    LayerProduct("attn", ProductShape(1, 3, 5, count=2), weights=False),
)
SIZES = st.integers(1, 500)
PRODUCTS = st.lists(
    st.builds(
        LayerProduct,
        st.just("layer"),
        st.builds(ProductShape, SIZES, SIZES, SIZES, st.integers(1, 12)),
        weights=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def smallest_budget(error):
    """The budget that the message says is enough."""
    return float(re.search(r"give --bop-budget (\S+) or more", str(error))[1])


def test_activations_meet_activations_in_attention():
    assert MIXED[0].bops(Widths(4, 8)) == 10 * 4 * 8
    assert MIXED[1].bops(Widths(4, 8)) == 30 * 8 * 8
    assert fraction_of_w8a8(MIXED, Widths(4, 8)) == (10 * 32 + 30 * 64) / (40 * 64)


@settings(deadline=None)
@given(PRODUCTS)
def test_w4a4_is_exactly_a_quarter(products):
    assert fraction_of_w8a8(products, Widths(8, 8)) == 1
    assert fraction_of_w8a8(products, Widths(4, 4)) == 0.25
    assert choose_uniform(products, 0.25) == Widths(4, 4)


@settings(deadline=None)
@given(PRODUCTS, st.integers(1, 1000).map(lambda thousandths: thousandths / 1000))
def test_the_best_affordable_widths(products, budget):
    affordable = [widths for widths in UNIFORM_WIDTHS if fraction_of_w8a8(products, widths) <= budget]
    assume(affordable)
    # Ordered from best to cheapest, so that the first one is meant.
    assert choose_uniform(products, budget) == affordable[0]


@pytest.mark.parametrize(("budget", "expected"), [(1, "w8a8"), (0.99, "w6a6"), (0.5, "w4a4"), (0.2, "w3a3")])
def test_steps(budget, expected):
    assert str(choose_uniform(MIXED, budget)) == expected


def test_weights_get_narrower_before_activations():
    weights_only = [LayerProduct("fc", ProductShape(4, 5, 6), weights=True)]
    assert str(choose_uniform(weights_only, 0.5)) == "w4a8"


@settings(deadline=None)
@given(PRODUCTS, st.floats(1e-3, 0.14))
def test_an_impossible_budget_names_one_that_works(products, budget):
    with pytest.raises(BudgetError, match="no configuration meets") as caught:
        choose_uniform(products, budget)
    named = smallest_budget(caught.value)
    assert choose_uniform(products, named) == UNIFORM_WIDTHS[-1]
    # The smallest in steps of 0.0001.
    with pytest.raises(BudgetError):
        choose_uniform(products, named - 0.0001)


@pytest.mark.parametrize(("text", "expected"), [("w4a4", (4, 4)), (" W2A8 ", (2, 8)), ("w8a3", (8, 3))])
def test_parse(text, expected):
    found = parse_widths(text)
    assert (found.weight, found.activation) == expected


@pytest.mark.parametrize("widths", UNIFORM_WIDTHS)
def test_parse_reads_what_is_printed(widths):
    assert parse_widths(str(widths)) == widths


@pytest.mark.parametrize("text", ["", "4", "w4", "a4w4", "w4a", "w4a4x", "w-4a4", "w4.5a4", "int8"])
def test_parse_another_spelling(text):
    with pytest.raises(OptionError, match="not of the form"):
        parse_widths(text)


@pytest.mark.parametrize("text", ["w1a4", "w4a9", "w16a16", "w0a0"])
def test_parse_outside_the_range(text):
    with pytest.raises(OptionError, match=r"outside 2\.\.8"):
        parse_widths(text)
