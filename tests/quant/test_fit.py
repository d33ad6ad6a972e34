"""Scales and zero points against brute force, the plain construction, and the limits of a signed byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.fit import fit_table, table_error
from qcompiler.quant.groups import CHANNELS, ROWS, fake_quantize, item_ranges

from .fitting import least_error, members, minmax_multiples, spread_channels

F = np.float32
ONES = np.ones(32, F)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.sampled_from([1, 2, 4, 9]), st.integers(0, 1000), st.sampled_from([0.01, 1, 100]))
def test_integer_multiples_fit_a_signed_byte(bits, groups, seed, size):
    x = spread_channels(seed, tokens=6, channels=12) * F(size)
    table = fit_table(x, CHANNELS, bits, groups)
    np.testing.assert_array_equal(table.multiplier, np.rint(table.multiplier))
    assert (table.multiplier >= 1).all()
    assert len(set(table.outer.tolist())) == 1
    np.testing.assert_array_equal(table.scale, table.outer * table.multiplier)  # float32(s0 * m), bit for bit
    np.testing.assert_array_equal(table.zero_point, np.rint(table.zero_point))
    q = np.arange(2**bits)
    operand = table.multiplier[:, None] * (q - table.zero_point[:, None])
    assert np.abs(operand).max() <= 127
    assert not table.exact


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 8), st.sampled_from([1, 3]), st.sampled_from([CHANNELS, ROWS]), st.booleans(), st.integers(0, 1000)
)
def test_any_table(bits, groups, axis, symmetric, seed):
    x = spread_channels(seed, tokens=4, channels=6)
    table = fit_table(x, axis, bits, groups, integer=False, symmetric=symmetric)
    assert (table.axis, table.bits) == (axis, bits)
    assert 1 <= table.count <= groups
    assert table.to_array().shape == (table.count, 6)
    assert np.isfinite(table.to_array()).all()
    assert (table.lower <= 0).all() and (table.upper >= 0).all()
    assert (table.scale > 0).all()
    assert ((table.zero_point >= 0) & (table.zero_point <= 2**bits - 1)).all()
    np.testing.assert_array_equal(table.zero_point, np.rint(table.zero_point))
    np.testing.assert_array_equal(table.multiplier * table.outer, table.scale)
    assert not fake_quantize(np.zeros_like(x), table).any()


@pytest.mark.parametrize("groups", [1, 4])
def test_rows_have_their_scale_outside(groups):
    table = fit_table(spread_channels(0), ROWS, 4, groups)
    assert table.multiplier.tolist() == [1] * table.count
    np.testing.assert_array_equal(table.outer, table.scale)


def test_exact_channels_have_their_scale_inside():
    table = fit_table(spread_channels(0), CHANNELS, 4, 4, integer=False)
    assert table.outer.tolist() == [1] * 4
    np.testing.assert_array_equal(table.multiplier, table.scale)
    assert table.exact


@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_symmetric_tables_have_the_middle_code(axis, bits):
    table = fit_table(spread_channels(0), axis, bits, 3, symmetric=True)
    assert table.zero_point.tolist() == [2 ** (bits - 1)] * 3
    assert table.multiplier.tolist() == [1] * 3
    np.testing.assert_array_equal(table.outer, table.scale)
    assert not table.exact


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_integer_multiples_beat_the_plain_construction(bits, groups, seed):
    x = spread_channels(seed)
    table = fit_table(x, CHANNELS, bits, groups)
    assert table_error(x, table, ONES) <= table_error(x, minmax_multiples(table), ONES)


@pytest.mark.parametrize(("bits", "factor"), [(3, 1.1), (4, 1.4)])
@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_integer_multiples_cost_little(bits, factor, groups, seed):
    """Against the best free scale of every group, by brute force. (At 6 bits only the multiples 1 to 3 are left.)"""
    x = spread_channels(seed)
    table = fit_table(x, CHANNELS, bits, groups)
    assert table_error(x, table, ONES) <= factor * least_error(x, table)


@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("bits", [3, 4])
def test_free_scales_of_even_data_are_near_the_best(axis, groups, bits):
    x = spread_channels(3, factor=1.5)
    table = fit_table(x, axis, bits, groups, integer=False)
    assert table_error(x, table, ONES) <= 1.3 * least_error(x, table)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("bits", "factor"), [(4, 1.5), (6, 2)])
@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
def test_free_scales_of_spread_items_are_near_the_best(axis, groups, bits, factor):
    """The members of a group differ in size: the best scale may be several times what their mean range says."""
    x = spread_channels(0)
    if axis == ROWS:
        x = np.ascontiguousarray(x.swapaxes(1, 2))
    table = fit_table(x, axis, bits, groups, integer=False)
    assert table_error(x, table, np.ones(x.shape[-1], F)) <= factor * least_error(x, table)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_free_scales_are_never_worse_than_multiples(groups):
    x = spread_channels(1)
    free, multiples = (fit_table(x, CHANNELS, 4, groups, integer=integer) for integer in (False, True))
    assert table_error(x, free, ONES) <= 1.1 * table_error(x, multiples, ONES)


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
def test_a_group_without_samples_covers_its_bounds(axis, integer):
    """Ranges come from more items than the sample: a rare wide item must not be clipped to the narrow ones."""
    x = spread_channels(0, factor=1)
    low, high = item_ranges(x, axis)
    rare = np.full(5, 60, F)
    table = fit_table(x, axis, 4, 2, integer=integer, ranges=(np.r_[low.ravel(), -rare], np.r_[high.ravel(), rare]))
    assert [len(found) for found in members(x, table)] == [x.size, 0]
    reach = (table.scale * (15 - table.zero_point))[1] + (table.scale * table.zero_point)[1]
    assert reach >= 0.5 * 120


@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_nothing_but_zeros(axis, integer):
    x = np.zeros((2, 4, 8), F)
    table = fit_table(x, axis, 4, 4, integer=integer)
    assert not fake_quantize(x, table).any()
    assert np.isfinite(fake_quantize(x + 1, table)).all()


def test_groups_are_ordered_by_width():
    tokens = np.array([[5, -1], [6, 1]], F)  # two channels: the range without zero is the wider one once it holds zero
    table = fit_table(tokens[None], CHANNELS, 4, 2)
    assert (np.diff(table.upper - table.lower) >= 0).all()


def test_bounds_come_from_the_given_ranges():
    x = spread_channels(0, factor=1)
    ranges = (np.full(7, -3, F), np.full(7, 4, F))
    table = fit_table(x, ROWS, 4, 2, ranges=ranges)
    assert (table.lower.tolist(), table.upper.tolist()) == ([-3], [4])


def test_important_channels_are_kept_better():
    x = spread_channels(2, factor=4)
    weighted = ONES.copy()
    weighted[:4] = 1000
    plain = fit_table(x, ROWS, 3, 1)
    favoured = fit_table(x, ROWS, 3, 1, importance=weighted)
    only = (weighted > 1).astype(F)
    assert table_error(x, favoured, only) < table_error(x, plain, only)
    assert table_error(x, favoured, weighted) < table_error(x, plain, weighted)


def test_dead_channels_do_not_shrink_the_scale():
    """A LayerNorm gamma of 0 leaves ranges of 1e-8: the group of those channels keeps a usable scale."""
    x = spread_channels(3, factor=1)
    x[..., :8] *= F(1e-8)
    table = fit_table(x, CHANNELS, 4, 2, integer=False)
    assert table.scale.min() > 1e-3 * table.scale.max()


@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
def test_table_error_is_the_weighted_squared_error(axis):
    x = spread_channels(4)
    importance = np.random.default_rng(0).uniform(0, 2, 32).astype(F)
    table = fit_table(x, axis, 3, 2)
    lost = (x.astype(np.float64) - fake_quantize(x, table)) ** 2
    assert table_error(x, table, importance) == pytest.approx((lost * importance).sum(), rel=1e-5)


def test_large_samples_are_thinned_without_losing_weight():
    """Many members, few members: the fit on a thinned sample stays close to brute force on all values."""
    x = spread_channels(5, instances=8, tokens=128, channels=32, factor=4)
    table = fit_table(x, CHANNELS, 4, 2)
    assert table_error(x, table, ONES) <= 1.3 * least_error(x, table)


def test_equal_input_gives_equal_tables():
    x = spread_channels(6)
    first, second = (fit_table(x, CHANNELS, 4, 4).to_array() for _ in range(2))
    np.testing.assert_array_equal(first, second)
