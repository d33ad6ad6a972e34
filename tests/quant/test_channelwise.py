"""Channel-wise quantizers and their fold, against NumPy in float64 that knows nothing of folding."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant import channelwise
from qcompiler.quant.channelwise import (
    ChannelQuantizer,
    channel_quantizer,
    choose_quantizer,
    fake_quantize_folded,
    fold,
    fold_error,
    folded_input,
    folded_norm,
    folded_weight,
)
from qcompiler.quant.groups import ROWS, assign, codes, item_ranges

F32 = np.float32
QUICK = settings(max_examples=80, deadline=None, derandomize=True)
BOUNDARY = 1e-5


def normalized_tokens(seed, channels=24, spread=1.0):
    """What a LayerNormalization writes: channels of different sizes and centres, [6, 40, channels]."""
    rng = np.random.default_rng(seed)
    size, centre = np.exp(spread * rng.normal(size=channels)), rng.normal(size=channels) * 3
    return (rng.normal(size=(6, 40, channels)) * size + centre * size).astype(F32)


def unfolded_codes(x, quantizer, bits):
    """Codes of every channel, and which values lie further than `BOUNDARY` steps from a rounding boundary."""
    steps = x.astype(np.float64) / quantizer.scale
    found = np.clip(np.rint(steps) + quantizer.zero_point.astype(np.float64), 0, 2**bits - 1)
    # In units of the numbers that the fold adds: a distance below it may be lost in float32.
    reach = BOUNDARY * (1 + np.abs(steps))
    return found, np.abs(np.abs(steps - np.rint(steps)) - 0.5) > reach


def table_codes(x, table):
    return codes(x, assign(*item_ranges(x, ROWS), table.lower, table.upper), table)


# -- The fold


@QUICK
@given(
    seed=st.integers(0, 2**31),
    bits=st.integers(2, 8),
    channels=st.integers(1, 40),
    spread=st.floats(0, 1.5),
    band=st.sampled_from([0.0, 0.5, 2.0, math.inf]),
    cover=st.sampled_from([1.0, 0.7]),
)
def test_same_codes(seed, bits, channels, spread, band, cover):
    """One quantizer of the folded tensor writes the integers of a quantizer for every channel."""
    x = normalized_tokens(seed, channels, spread)
    quantizer = channel_quantizer(x, bits, band, cover)
    found, table = fold(quantizer, bits, "norm")
    expected, fixed = unfolded_codes(x, quantizer, bits)
    got = table_codes(folded_input(x, found), table)
    np.testing.assert_array_equal(got[fixed], expected[fixed])
    assert np.abs(got - expected).max() <= 1
    assert np.mean(~fixed) < 0.02


@pytest.mark.parametrize("zero_points", [(-300, -7, 3), (900, 20, 31), (-50, 4, 60)])
def test_same_codes_far_from_zero(zero_points):
    """Zero points outside of the codes, and a mean of them outside of the codes: the table's stays within."""
    scale, zero = np.array([0.01, 0.2, 0.6], F32), np.array(zero_points, F32)
    quantizer = ChannelQuantizer(scale, zero)
    found, table = fold(quantizer, 4, "norm")
    assert 0 <= table.zero_point[0] <= 15
    # Every code of every channel and more, a quarter of a step off its middle.
    x = ((np.arange(-3, 20)[:, None] - zero + F32(0.25)) * scale).astype(F32)[None]
    got = table_codes(folded_input(x, found), table)
    np.testing.assert_array_equal(got[0], np.clip(np.arange(-3, 20), 0, 15)[:, None].repeat(3, axis=1))


def test_table():
    """One static group of rows: the mean scale and the rounded mean zero point."""
    found, table = fold(ChannelQuantizer(np.array([1, 2, 6], F32), np.array([2, 3, 9], F32)), 4, "norm1")
    assert (table.count, table.axis, table.bits, table.exact) == (1, ROWS, 4, False)
    np.testing.assert_array_equal(table.to_array(), [[0, 0, 3, 5, 1, 3]])
    assert found.norm == "norm1"
    np.testing.assert_allclose(found.scale, [1 / 3, 2 / 3, 2], rtol=1e-7)
    np.testing.assert_array_equal(found.shift, [1 * -3, 2 * -2, 6 * 4])


def test_reading_back():
    """The network sees what a quantizer for every channel reads back."""
    x = normalized_tokens(3)
    quantizer = channel_quantizer(x, 4, 1.0)
    expected, fixed = unfolded_codes(x, quantizer, 4)
    read_back = (expected - quantizer.zero_point) * quantizer.scale
    got = fake_quantize_folded(x, *fold(quantizer, 4, "norm"))
    assert got.dtype == F32
    assert np.abs(got - read_back)[fixed].max() <= 1e-5 * np.abs(x).max()


@QUICK
@given(seed=st.integers(0, 2**31), band=st.sampled_from([0.0, 1.0, math.inf]))
def test_folded_layers_compute_the_same(seed, band):
    """Scale and bias of the norm, weight and bias of the layer: the float model stays, to 1e-5 of its outputs."""
    rng = np.random.default_rng(seed)
    standard = rng.normal(size=(50, 24))
    gamma, beta = rng.normal(size=24).astype(F32), rng.normal(size=24).astype(F32)
    weight, bias = rng.normal(size=(24, 10)).astype(F32), rng.normal(size=10).astype(F32)
    x = (standard * gamma + beta).astype(F32)
    found, _ = fold(channel_quantizer(x[None], 4, band), 4, "norm")
    new_gamma, new_beta = folded_norm(gamma, beta, found)
    new_weight, new_bias = folded_weight(weight, bias, found)
    assert {value.dtype for value in (new_gamma, new_beta, new_weight, new_bias)} == {np.dtype(F32)}
    expected = (standard * gamma + beta) @ weight.astype(np.float64) + bias
    got = (standard * new_gamma + new_beta) @ new_weight.astype(np.float64) + new_bias
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(standard * new_gamma + new_beta, folded_input(x, found), rtol=0, atol=1e-4)


# -- Quantizers of channels


def test_covers_every_range():
    """Without clipping the first code lies at the minimum and the last one at the maximum, within half a step."""
    x = normalized_tokens(4)
    quantizer = channel_quantizer(x, 4, math.inf)
    low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
    np.testing.assert_allclose(quantizer.scale, (high - low) / 15, rtol=1e-6)
    first, last = -quantizer.zero_point * quantizer.scale, (15 - quantizer.zero_point) * quantizer.scale
    assert np.all(np.abs(first - low) <= 0.501 * quantizer.scale)
    assert np.all(np.abs(last - high) <= 0.501 * quantizer.scale)
    np.testing.assert_array_equal(quantizer.zero_point, np.rint(quantizer.zero_point))
    assert quantizer.zero_point.max() > 15 or quantizer.zero_point.min() < 0, "the case must hold ranges without zero"


def test_band():
    """Scales 1, 2, 3 and 10: mean 4, standard deviation 3.54."""
    x = np.zeros((1, 2, 4), F32)
    x[0, 1] = np.array([1, 2, 3, 10]) * 15
    scales = {spread: channel_quantizer(x, 4, spread).scale for spread in (0.0, 0.5, 1.0, math.inf)}
    np.testing.assert_array_equal(scales[0.0], [4, 4, 4, 4])
    deviation = math.sqrt((9 + 4 + 1 + 36) / 4)
    np.testing.assert_allclose(
        scales[0.5], np.array([4 - deviation / 2, 4 - deviation / 2, 3, 4 + deviation / 2]), rtol=1e-6
    )
    np.testing.assert_allclose(scales[1.0], [1, 2, 3, 4 + deviation], rtol=1e-6)
    np.testing.assert_array_equal(scales[math.inf], [1, 2, 3, 10])


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_a_clipped_channel_keeps_its_centre(spread):
    x = normalized_tokens(5, spread=1.5)
    quantizer = channel_quantizer(x, 4, spread)
    middle = (7.5 - quantizer.zero_point) * quantizer.scale
    centre = (x.min(axis=(0, 1)) + x.max(axis=(0, 1))) / 2
    assert np.all(np.abs(middle - centre) <= 0.501 * quantizer.scale)


def test_cover():
    """Half of every range."""
    x = normalized_tokens(6)
    whole, half = (channel_quantizer(x, 4, math.inf, cover) for cover in (1.0, 0.5))
    np.testing.assert_allclose(half.scale, whole.scale / 2, rtol=1e-6)


@pytest.mark.parametrize("spread", [0.5, math.inf])
def test_dead_channels(spread):
    """A LayerNorm gamma of 0: constant channels get at least 0.05 of the median scale, and their constant is exact."""
    x = normalized_tokens(7)
    x[:, :, :5] = 0
    x[:, :, 1], x[:, :, 2] = 2.5, -1e-8
    quantizer = channel_quantizer(x, 4, spread)
    scale = (x.max(axis=(0, 1)) - x.min(axis=(0, 1))) / 15
    assert quantizer.scale.min() >= 0.05 * np.median(scale) * 0.999
    found, table = fold(quantizer, 4, "norm")
    assert all(np.isfinite(value).all() for value in (found.scale, found.shift, table.to_array()))
    error = np.abs(fake_quantize_folded(x, found, table) - x)[:, :, :5]
    assert error.max() <= 0.501 * quantizer.scale[:5].max()


@pytest.mark.parametrize("constant", [0.0, 1e-30, -3.0])
def test_nothing_but_constants(constant):
    x = np.full((2, 3, 4), constant, F32)
    found, table = fold(channel_quantizer(x, 4, 1.0), 4, "norm")
    read_back = fake_quantize_folded(x, found, table)
    assert np.abs(read_back - x).max() <= 0.5


def test_more_than_half_of_the_channels_are_dead():
    """The median is 0: the largest scale stands in."""
    x = normalized_tokens(8)
    x[:, :, 4:] = 1
    quantizer = channel_quantizer(x, 4, math.inf)
    assert quantizer.scale.min() == pytest.approx(0.05 * quantizer.scale.max(), rel=1e-6)


# -- Choosing


def measured_error(x, weight, quantizer, bits, weight_bits):
    """Mean squared error of `x @ weight` with both quantized, channel by channel and output by output, in float64."""
    found, _ = unfolded_codes(x, quantizer, bits)
    read_back = (found - quantizer.zero_point) * quantizer.scale.astype(np.float64)
    step = quantizer.scale.mean(dtype=np.float64)
    factor = (quantizer.scale / step)[:, None]
    moved, top = weight * factor, 2 ** (weight_bits - 1) - 1
    zero = np.clip(np.rint(quantizer.zero_point.mean()), 0, 2**bits - 1)
    inputs = (x + (quantizer.zero_point - zero) * quantizer.scale) / factor.T
    energy = np.mean(inputs**2, axis=0)
    best = np.full(moved.shape[1], np.inf)
    rounded = np.zeros_like(moved)
    for ratio in np.linspace(0.4, 1, 25):
        scale = np.abs(moved).max(axis=0) / top * ratio
        candidate = np.clip(np.rint(moved / scale), -top, top) * scale
        error = energy @ (candidate - moved) ** 2
        rounded[:, error < best] = candidate[:, error < best]
        best = np.minimum(best, error)
    activations = np.mean(((read_back - x) @ weight) ** 2)
    return activations, np.mean((inputs @ (rounded - moved)) ** 2)


@pytest.mark.parametrize("band", [0.0, 1.0, math.inf])
def test_fold_error(band):
    """Near the measured error of the product: that of the activations is a sum over channels, as if independent."""
    x = normalized_tokens(9)
    rows, weight = x.reshape(-1, 24), np.random.default_rng(9).normal(size=(24, 64)).astype(F32)
    quantizer = channel_quantizer(x, 4, band)
    parts = measured_error(rows.astype(np.float64), weight.astype(np.float64), quantizer, 4, 4)
    assert fold_error(rows, weight, quantizer, 4, 4) == pytest.approx(sum(parts), rel=0.15)


def widest(x, bits):
    """One scale for all channels that clips none."""
    scale = np.full(x.shape[-1], channel_quantizer(x, bits, math.inf).scale.max(), F32)
    centre = (x.min(axis=(0, 1)) + x.max(axis=(0, 1))) / 2
    return ChannelQuantizer(scale, np.rint((2**bits - 1) / 2 - centre / scale).astype(F32))


@pytest.mark.parametrize(("bits", "weight_bits", "better"), [(8, 3, "equal"), (3, 8, "free")])
def test_fold_error_counts_both_sides(bits, weight_bits, better):
    """Factors for every channel ruin coarse weights, one scale for all channels ruins coarse activations."""
    x = normalized_tokens(10)
    rows, weight = x.reshape(-1, 24), np.random.default_rng(10).normal(size=(24, 64)).astype(F32)
    choices = {"equal": widest(x, bits), "free": channel_quantizer(x, bits, math.inf)}
    errors = {name: fold_error(rows, weight, item, bits, weight_bits) for name, item in choices.items()}
    assert min(errors, key=errors.__getitem__) == better
    assert max(errors.values()) > 1.5 * min(errors.values())


@pytest.mark.parametrize(("bits", "weight_bits"), [(4, 4), (3, 8), (8, 3)])
def test_choice_is_at_least_as_good_as_any_spread(bits, weight_bits):
    """By an independent measure, with room for what the choice does not measure."""
    x = normalized_tokens(11, spread=0.8)
    rows, weight = x.reshape(-1, 24), np.random.default_rng(11).normal(size=(24, 48)).astype(F32)

    def measured(quantizer):
        return sum(measured_error(rows.astype(np.float64), weight.astype(np.float64), quantizer, bits, weight_bits))

    chosen = measured(choose_quantizer(x, weight, bits, weight_bits))
    every = [measured(channel_quantizer(x, bits, spread)) for spread in channelwise.SPREADS]
    assert chosen <= 1.05 * min(every)
    assert chosen < 0.8 * max(every)


def test_choice_from_many_rows_and_outputs():
    """More rows and outputs than an error is taken over: the same choice as from those alone."""
    x = np.concatenate([normalized_tokens(seed) for seed in range(6)], axis=0)
    weight = np.random.default_rng(12).normal(size=(24, 700)).astype(F32)
    step = -(-x.shape[0] * x.shape[1] // channelwise.ROWS_TRIED), -(-700 // channelwise.OUTPUTS_TRIED)
    assert step == (2, 3)
    chosen = choose_quantizer(x, weight, 4, 4)
    rows, columns = x.reshape(-1, 24)[:: step[0]], weight[:, :: step[1]]
    error = fold_error(rows, columns, chosen, 4, 4)
    for spread in channelwise.SPREADS:
        assert error <= fold_error(rows, columns, channel_quantizer(x, 4, spread), 4, 4)
