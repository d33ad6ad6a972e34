"""Assignment, codes and operands of group quantizers against loops over single values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qcompiler.errors import OptionError
from qcompiler.quant.groups import (
    CHANNELS,
    COLUMNS,
    ROWS,
    GroupTable,
    assign,
    codes,
    fake_quantize,
    item_ranges,
    operands,
)

F = np.float32
# A coarse grid: distances tie often.
BOUNDS = st.integers(-3, 3).map(F)
VALUES = st.floats(-20, 20, width=32)


def table_of(groups, axis, bits, draw):
    """A random table; scales and zero points have nothing to do with the bounds."""
    bounds = np.sort(draw.standard_normal((2, groups)) * 3, axis=0).astype(F)
    multiplier = draw.integers(1, 4, groups).astype(F)
    outer = np.full(groups, draw.uniform(0.05, 0.5), F)
    zero = draw.integers(0, 2**bits, groups).astype(F)
    return GroupTable(bounds[0], bounds[1], outer * multiplier, zero, multiplier, outer, axis, bits)


def nearest(low, high, lower, upper):
    """The definition for one item, in float32 and in the order it is written down."""
    best, found = None, 0
    for i in range(len(lower)):
        distance = F(F(high - upper[i]) * F(high - upper[i])) + F(F(low - lower[i]) * F(low - lower[i]))
        if best is None or distance < best:
            best, found = distance, i
    return found


def read_back(x, table):
    """Every value through its item's group, one at a time."""
    result = np.empty_like(x)
    for place in np.ndindex(x.shape):
        leading, row, channel = place[:-2], place[-2], place[-1]
        item = x[leading][:, channel] if table.axis == CHANNELS else x[leading][row]
        g = nearest(item.min(), item.max(), table.lower, table.upper)
        q = F(np.rint(F(x[place] * F(F(1) / table.scale[g])))) + table.zero_point[g]
        q = min(max(q, F(0)), F(2**table.bits - 1))
        result[place] = F(F(q - table.zero_point[g]) * table.multiplier[g]) * table.outer[g]
    return result


@settings(deadline=None)
@given(st.lists(st.tuples(BOUNDS, BOUNDS), min_size=1, max_size=6), st.lists(st.tuples(BOUNDS, BOUNDS), min_size=1))
def test_assignment_is_the_nearest_group(groups, items):
    lower, upper = (np.array(side, F) for side in zip(*groups, strict=True))
    low, high = (np.array(side, F) for side in zip(*items, strict=True))
    expected = [nearest(a, b, lower, upper) for a, b in zip(low, high, strict=True)]
    assert assign(low, high, lower, upper).tolist() == expected


@settings(deadline=None)
@given(st.data())
def test_assignment_of_fractions_rounds_as_float32(data):
    count = data.draw(st.integers(1, 5))
    lower, upper = data.draw(arrays(F, (2, count), elements=VALUES))
    low, high = data.draw(arrays(F, (2, 4), elements=VALUES))
    expected = [nearest(a, b, lower, upper) for a, b in zip(low, high, strict=True)]
    assert assign(low, high, lower, upper).tolist() == expected


def test_ties_go_to_the_lowest_index():
    lower, upper = np.array([-2, -1, -1], F), np.array([2, 1, 1], F)
    assert assign(F([-1]), F([1]), lower, upper).tolist() == [1]  # groups 1 and 2 are the same
    assert assign(F([-1.5]), F([1.5]), lower, upper).tolist() == [0]  # half way between 0 and 1


def test_assignment_keeps_the_shape_of_the_items():
    low = np.zeros((2, 1, 5), F)
    assert assign(low, low, F([0]), F([0])).shape == (2, 1, 5)


@settings(deadline=None)
@given(arrays(F, array_shapes(min_dims=2, max_dims=4, max_side=4), elements=VALUES), st.sampled_from([CHANNELS, ROWS]))
def test_item_ranges(x, axis):
    low, high = item_ranges(x, axis)
    reduced = x.ndim - 2 if axis == CHANNELS else x.ndim - 1
    assert low.shape == high.shape == (*x.shape[:reduced], 1, *x.shape[reduced + 1 :])
    for place in np.ndindex(low.shape):
        item = x[tuple(slice(None) if a == reduced else i for a, i in enumerate(place))]
        assert low[place] == min(item.tolist())
        assert high[place] == max(item.tolist())


@pytest.mark.parametrize(
    ("x", "scale", "zero", "expected", "distinguishes"),
    [
        (0.5, 1, 0, 0, "half to even from half away from zero"),
        (1.5, 1, 0, 2, "half to even from half towards zero"),
        (2.5, 1, 0, 2, "half to even from half up"),
        (-0.5, 1, 8, 8, "half to even from half down"),
        (-1.5, 1, 8, 6, "half to even from half up, below zero"),
        (-2.7, 1, 8, 5, "rounding from truncation"),
        (0.5, 1, 1, 1, "rounding before the zero point is added from rounding after it"),
        (1.5, 1, 1, 3, "the same for an odd half"),
        (100, 1, 3, 15, "saturation from wrapping around, above"),
        (-100, 1, 3, 0, "saturation from wrapping around, below"),
        (12.5, 1, 3, 15, "rounding before clipping: 12 + 3 is the last code that is not clipped"),
        (3e38, 1e-30, 0, 15, "saturation from an overflow to infinity"),
    ],
)
def test_rounding_of_single_values(x, scale, zero, expected, distinguishes):
    one = np.ones(1, F)
    table = GroupTable(-one, one, one * F(scale), one * F(zero), one, one * F(scale), ROWS, 4)
    with np.errstate(over="ignore"):
        found = codes(F([[x]]), np.zeros((1, 1), np.intp), table)
    assert found.dtype == np.uint8
    assert found.item() == expected, distinguishes


def test_codes_multiply_by_the_rounded_inverse():
    """Where `x * (1 / s)` and `x / s` differ in float32 the kernels have the former."""
    draw = np.random.default_rng(0)
    scale = draw.uniform(0.1, 1, 20000).astype(F)
    x = (scale * (draw.integers(0, 14, 20000) + F(0.5))).astype(F)
    product, quotient = np.rint(x * (F(1) / scale)), np.rint(x / scale)
    differing = np.flatnonzero(product != quotient)
    assert len(differing) > 100
    for i in differing[:50]:
        one = np.ones(1, F)
        table = GroupTable(-one, one, scale[i : i + 1], one * 0, one, scale[i : i + 1], ROWS, 4)
        assert codes(x[None, i : i + 1], np.zeros((1, 1), np.intp), table).item() == product[i]


@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (2, 3, 4, 5)])
def test_fake_quantize_is_the_definition(axis, bits, shape):
    draw = np.random.default_rng(bits)
    x = (draw.standard_normal(shape) * draw.uniform(0.1, 4, shape[-1])).astype(F)
    table = table_of(4, axis, bits, draw)
    np.testing.assert_array_equal(fake_quantize(x, table), read_back(x, table))


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 5), st.sampled_from([CHANNELS, ROWS]), st.integers(0, 1000))
def test_values_in_reach_lose_at_most_half_a_step(bits, groups, axis, seed):
    draw = np.random.default_rng(seed)
    table = table_of(groups, axis, bits, draw)
    x = (draw.standard_normal((2, 4, 5)) * 3).astype(F)
    index = assign(*item_ranges(x, axis), table.lower, table.upper)
    step, zero = table.scale[index], table.zero_point[index]
    lowest, highest = -zero * step, (2**bits - 1 - zero) * step
    reachable = np.clip(x, lowest, highest)
    error = np.abs(fake_quantize(x, table) - reachable)
    assert (error <= step * (0.5 + 1e-4)).all()


def test_zero_is_exact():
    draw = np.random.default_rng(1)
    assert not fake_quantize(np.zeros((2, 3, 4), F), table_of(3, CHANNELS, 4, draw)).any()


def test_operands_are_whole_numbers():
    draw = np.random.default_rng(2)
    table = table_of(3, CHANNELS, 4, draw)
    x = draw.standard_normal((2, 6, 5)).astype(F)
    index = assign(*item_ranges(x, CHANNELS), table.lower, table.upper)
    q = codes(x, index, table)
    found = operands(q, index, table)
    np.testing.assert_array_equal(found, np.rint(found))
    shifted = q.astype(int) - table.zero_point[index].astype(int)
    np.testing.assert_array_equal(found, shifted * table.multiplier[index].astype(int))


def test_array_form():
    table = table_of(3, CHANNELS, 4, np.random.default_rng(3))
    array = table.to_array()
    assert array.shape == (3, 6)
    assert array.dtype == F
    assert table.count == 3
    for column, name in enumerate(COLUMNS):
        np.testing.assert_array_equal(array[:, column], getattr(table, name))
    again = GroupTable.from_array(array, CHANNELS, 4)
    np.testing.assert_array_equal(again.to_array(), array)
    assert (again.axis, again.bits) == (CHANNELS, 4)


@pytest.mark.parametrize("shape", [(6,), (3, 5), (1, 3, 6)])
def test_array_of_another_shape(shape):
    with pytest.raises(OptionError, match=r"\[groups, 6\]"):
        GroupTable.from_array(np.zeros(shape, F), CHANNELS, 4)


def test_exact_means_free_channel_scales():
    ones = np.ones(2, F)
    scale = F([0.3, 0.7])

    def table(axis, multiplier, outer):
        return GroupTable(-ones, ones, multiplier * outer, ones, multiplier, outer, axis, 4)

    assert table(CHANNELS, scale, ones).exact
    assert not table(CHANNELS, F([1, 3]), ones * F(0.1)).exact  # integer multiples
    assert not table(CHANNELS, ones, scale).exact  # columns of the output: free in the product
    assert not table(ROWS, ones, scale).exact
