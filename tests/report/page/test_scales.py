"""Axes: they contain what they must show, and their marks are few and round."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.report.page.scales import Edge, linear, logarithmic, powers_of_two, round_edges

NUMBERS = st.lists(st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6), min_size=1, max_size=6)
POSITIVE = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=6)


def check(scale, values):
    assert scale.low < scale.high
    positions = [scale.at(value) for value in sorted(values)]
    assert positions == sorted(positions)
    assert all(0 <= position <= 1 for position in positions)
    marks = [value for value, _ in scale.ticks]
    assert marks == sorted(set(marks))
    assert all(scale.low <= mark <= scale.high for mark in marks)
    assert len({label for _, label in scale.ticks}) == len(marks)


@given(NUMBERS, st.integers(1, 8), st.booleans())
def test_linear(values, steps, zero):
    # Values that differ in their last digits have no round marks between them.
    spread = max(values) - min(values)
    if not zero and 0 < spread < 1e-4 * max(map(abs, values)):
        return
    scale = linear(values, steps, zero=zero)
    check(scale, values)
    slack = 1e-8 * (scale.high - scale.low)
    assert scale.low - slack <= min(values) and max(values) <= scale.high + slack
    assert 2 <= len(scale.ticks) <= steps + 3
    if zero:
        assert scale.low <= 0 <= scale.high


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0.0, 7.3], ["0", "2", "4", "6", "8"]),
        ([1.0, 10.0], ["0", "2.5", "5", "7.5", "10"]),
        ([-3.0, 12.0], ["-5", "0", "5", "10", "15"]),
        ([0.0], ["0", "0.25", "0.5", "0.75", "1"]),
        ([], ["0", "0.25", "0.5", "0.75", "1"]),
    ],
)
def test_linear_marks(values, marks):
    assert [label for _, label in linear(values).ticks] == marks


@given(st.lists(st.integers(1, 500), min_size=1, max_size=5), st.integers(1, 8))
def test_whole_marks(values, steps):
    scale = linear(values, steps, whole=True)
    assert all(value == int(value) for value, _ in scale.ticks)
    assert len(scale.ticks) <= steps + 3


@given(POSITIVE)
def test_logarithmic(values):
    scale = logarithmic(values)
    check(scale, values)
    assert 2 <= len(scale.ticks) <= 9
    assert max(values) <= scale.high * (1 + 1e-12)
    if max(values) / min(values) < 1e6:
        assert scale.low <= min(values) * (1 + 1e-12)


def test_logarithmic_keeps_what_is_not_positive_at_its_start():
    scale = logarithmic([0.0, -1e-9, 0.01, 1.0])
    assert (scale.low, scale.high) == (0.01, 1.0)
    assert scale.at(0.0) == scale.at(-1e-9) == 0.0
    assert scale.at(0.1) == pytest.approx(0.5)


@given(POSITIVE)
def test_edges_enclose_the_largest(values):
    edges = [edge.value for edge in round_edges(values)]
    assert edges == sorted(set(edges))
    assert 2 <= len(edges) <= 9
    assert edges[-2] < max(values) <= edges[-1] or max(values) == edges[0]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.03, 0.09], ["0.02", "0.05", "0.1"]),
        ([0.002, 0.9], ["10⁻³", "3·10⁻³", "0.01", "0.03", "0.1", "0.3", "1"]),
        ([2e-6, 3.0], ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1", "10"]),
        ([1e-30, 1.0], ["10⁻⁸", "10⁻⁷", "10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1"]),
        ([], ["0.1", "0.2", "0.5", "1"]),
    ],
)
def test_edge_labels(values, labels):
    assert [edge.label for edge in round_edges(values)] == labels


def test_edge_is_the_nearest_number():
    assert Edge(3, -5).value == 3e-5


def test_powers_of_two():
    scale = powers_of_two([4 / 64, 9 / 64, 1.0])
    assert [label for _, label in scale.ticks] == ["0.0625", "0.125", "0.25", "0.5", "1"]
    assert 0 < scale.at(4 / 64) < 0.05 and 0.95 < scale.at(1.0) < 1
    assert scale.at(0.25) == pytest.approx((math.log2(0.25) - math.log2(scale.low)) / math.log2(scale.high / scale.low))


def test_powers_of_two_within_a_small_range_are_linear():
    assert not powers_of_two([0.2, 0.25]).logarithmic
