"""Bit operations against numbers worked out by hand for a ViT-Tiny layer: 197 tokens, 192 channels, 3 heads of 64."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.quant.bops import (
    BitOperations,
    ProductShape,
    assignment_bops,
    product_bops,
    range_bops,
    segment_bops,
)

QKV = ProductShape(197, 192, 576)
SCORES = ProductShape(197, 64, 197, count=3)


def test_multiply_accumulates():
    assert QKV.macs == 21_786_624
    assert SCORES.macs == 7_451_328


def test_products():
    assert product_bops(QKV, 4, 4) == 348_585_984
    assert product_bops(QKV, 8, 8) == 1_394_343_936
    assert product_bops(QKV, 8, 4) == product_bops(QKV, 4, 8) == 697_171_968
    assert product_bops(SCORES, 4, 4) == 119_221_248


def test_bookkeeping():
    assert range_bops(QKV) == 1_210_368  # 32 * 197 * 192
    assert range_bops(SCORES) == 1_210_368  # the same tensor in three heads
    assert assignment_bops(192, 8) == 49_152  # 32 * 192 * 8
    assert segment_bops(QKV, 8) == 29_048_832  # 197 * 576 * 8 * 32


def test_eight_groups_rescaled_per_output_cost_a_twelfth():
    """The number of the method's description: 0.083 at 192 channels and W4A4."""
    assert segment_bops(QKV, 8) / product_bops(QKV, 4, 4) == pytest.approx(1 / 12)


@given(st.tuples(*[st.integers(1, 64)] * 4), st.integers(1, 8), st.integers(1, 8))
def test_counts_add_up(shape, left, right):
    rows, inner, outputs, count = shape
    whole = ProductShape(rows, inner, outputs, count)
    single = ProductShape(rows, inner, outputs)
    assert product_bops(whole, left, right) == sum(product_bops(single, left, right) for _ in range(count))
    assert range_bops(whole) == count * range_bops(single)
    assert segment_bops(whole, left) == count * segment_bops(single, left)


def test_fractions():
    spent = BitOperations(products=250, bookkeeping=50, fixed=100, products_w8a8=1000, float32=16_000)
    assert spent.total == 400
    assert spent.fraction_of_w8a8 == 0.25
    assert spent.overhead == 0.2
    assert spent.fraction_of_float == 0.025
    assert spent.to_dict() == {
        "products": 250,
        "bookkeeping": 50,
        "fixed": 100,
        "total": 400,
        "fraction_of_w8a8": 0.25,
        "overhead": 0.2,
        "fraction_of_float": 0.025,
    }


def test_nothing_to_choose():
    empty = BitOperations(products=0, bookkeeping=0, fixed=7, products_w8a8=0, float32=0)
    assert (empty.fraction_of_w8a8, empty.overhead, empty.fraction_of_float) == (0, 0, 0)
