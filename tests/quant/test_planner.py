"""Choices for single layers: each is the one that leaves less error, measured here by another path."""

import numpy as np
import pytest

from qcompiler.quant.groups import CHANNELS, ROWS, GroupTable, assign, fake_quantize, item_ranges
from qcompiler.quant.kmeans import fit_bounds
from qcompiler.quant.levels import codebook_levels, uniform_levels
from qcompiler.quant.planner import (
    LinearSamples,
    attention_table,
    channel_importance,
    linear_axis,
    linear_table,
    probability_quantizer,
    quantize_probability,
)

from .fitting import spread_channels

F = np.float32


def samples_of(x):
    ranges = {axis: np.stack([side.ravel() for side in item_ranges(x, axis)], axis=1) for axis in (CHANNELS, ROWS)}
    return LinearSamples(x, ranges)


def weight_of(channels, outputs=16, seed=0):
    return np.random.default_rng(seed).standard_normal((channels, outputs)).astype(F)


def probabilities(instances=6, tokens=20, seed=0, sharpness=2.0):
    scores = np.random.default_rng(seed).standard_normal((instances, tokens, tokens)) * sharpness
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return (p / p.sum(-1, keepdims=True)).astype(F)


@pytest.mark.parametrize("integer", [True, False])
def test_axis_follows_the_spread(integer):
    x = spread_channels(0, factor=100)
    assert linear_axis(samples_of(x), weight_of(32), 4, 8, integer=integer) == CHANNELS
    draw = np.random.default_rng(0)
    rows = draw.uniform(-1, 1, (2, 64, 16)) * draw.permutation(np.repeat([1, 10], 32))[:, None]
    assert linear_axis(samples_of(rows.astype(F)), weight_of(16), 4, 8, integer=integer) == ROWS


def test_axis_leaves_the_smaller_error_of_the_output():
    for seed in range(4):
        x, weight = spread_channels(seed, factor=[1, 3, 10, 30][seed]), weight_of(32)
        samples = samples_of(x)
        lost = {}
        for axis in (CHANNELS, ROWS):
            table = linear_table(samples, axis, weight, 4, 4, integer=True)
            difference = (x - fake_quantize(x, table)).astype(np.float64)
            lost[axis] = ((difference**2).sum((0, 1)) * (weight.astype(np.float64) ** 2).sum(1)).sum()
        chosen = linear_axis(samples, weight, 4, 4, integer=True)
        assert lost[chosen] <= min(lost.values()) * (1 + 1e-5)


def test_single_rows_are_grouped_as_rows():
    x = spread_channels(0, instances=64, tokens=1)
    assert linear_axis(samples_of(x), weight_of(32), 4, 4, integer=True) == ROWS
    assert linear_axis(samples_of(x), weight_of(32), 4, 4, integer=False) == ROWS


@pytest.mark.parametrize("bits", [7, 8])
def test_wide_codes_leave_no_room_for_multiples(bits):
    samples = samples_of(spread_channels(0, factor=100))
    assert linear_axis(samples, weight_of(32), bits, 4, integer=True) == ROWS


def test_importance_is_the_energy_of_the_rows():
    weight = weight_of(12)
    found = channel_importance(weight)
    assert found.dtype == F
    np.testing.assert_allclose(found, (weight.astype(np.float64) ** 2).sum(1), rtol=1e-6)


@pytest.mark.parametrize("axis", [CHANNELS, ROWS])
def test_attention_tables_are_symmetric(axis):
    table = attention_table(spread_channels(0), axis, 4, 3)
    assert (table.axis, table.zero_point.tolist(), table.multiplier.tolist()) == (axis, [8] * 3, [1] * 3)


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("groups", [1, 4])
def test_probability_quantizer(bits, groups):
    p = probabilities()
    table, levels = probability_quantizer(p, bits, groups)
    assert table.axis == ROWS
    assert not table.zero_point.any()
    assert (table.multiplier == 1).all()
    np.testing.assert_array_equal(table.outer, table.scale)
    assert levels.dtype == np.uint8
    assert len(set(levels.tolist())) <= 2**bits
    if len(levels) == 2**bits:
        np.testing.assert_array_equal(levels, np.arange(2**bits))
    else:
        assert bits <= 6
        assert len(levels) == 128
        assert levels.max() <= 127


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("sharpness", [2, 3])
def test_probability_quantizer_is_no_worse_than_plain_rounding(groups, sharpness):
    """Against one scale for all rows that reaches the largest probability."""
    p = probabilities(seed=3, sharpness=sharpness)
    found = quantize_probability(p, *probability_quantizer(p, 4, groups))
    step = p.max() / 15
    assert ((found - p) ** 2).mean() < ((np.rint(p / step) * step - p) ** 2).mean()


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("sharpness", [2, 3])
def test_codebooks_reach_beyond_the_mean_row(groups, sharpness):
    """A group's upper bound is the mean of its rows' maxima: a codebook that ends there clips half of the rows."""
    p = probabilities(tokens=40, seed=1, sharpness=sharpness)
    minimum, maximum = item_ranges(p, ROWS)
    lower, upper = fit_bounds(minimum.ravel(), maximum.ravel(), groups)
    reach = upper * F(1.5)
    levels = codebook_levels(p / reach[assign(minimum, maximum, lower, upper)], 4)
    ones, scale = np.ones_like(reach), reach / F(127)
    wider = GroupTable(lower, upper, scale, ones * 0, ones, scale, ROWS, 7)
    lost = [
        np.square(quantize_probability(p, *quantizer) - p).mean()
        for quantizer in (probability_quantizer(p, 4, groups), (wider, levels))
    ]
    assert lost[0] <= 1.1 * lost[1]


def test_quantize_probability_is_the_definition():
    draw = np.random.default_rng(4)
    p = probabilities(instances=2, tokens=7)
    scale = draw.uniform(0.005, 0.02, 3).astype(F)
    upper = np.array([0.2, 0.5, 0.9], F)
    ones = np.ones(3, F)
    table = GroupTable(ones * 0, upper, scale, ones * 0, ones, scale, ROWS, 7)
    levels = np.sort(draw.integers(0, 128, 128)).astype(np.uint8)
    expected = np.empty_like(p)
    for b, n in np.ndindex(p.shape[:2]):
        row = p[b, n]
        distance = (row.max() - upper) ** 2 + row.min() ** 2
        g = int(distance.argmin())
        for m, value in enumerate(row):
            t = min(max(int(np.rint(value * F(F(1) / scale[g]))), 0), 127)
            expected[b, n, m] = F(levels[t]) * scale[g]
    np.testing.assert_array_equal(quantize_probability(p, table, levels), expected)


def test_uniform_levels_quantize_like_a_group_quantizer():
    p = probabilities(instances=2, tokens=9)
    table, levels = probability_quantizer(p, 8, 4)
    np.testing.assert_array_equal(levels, uniform_levels(8))
    np.testing.assert_array_equal(quantize_probability(p, table, levels), fake_quantize(p, table))


def test_powers_of_two_are_quantized_in_the_log_domain():
    """Rows of 1/2, 1/4, ... 1/64, 1/64: exact as powers, not as whole steps of their maximum."""
    row = np.array([2.0**-k for k in range(1, 7)] + [2.0**-6], F)
    p = np.stack([np.stack([np.roll(row, i) for i in range(len(row))])] * 2)
    table, levels = probability_quantizer(p, 3, 1)
    assert set(levels.tolist()) <= {0, 1, 2, 4, 8, 16, 32, 64}
    np.testing.assert_allclose(quantize_probability(p, table, levels), p, rtol=1e-6)
