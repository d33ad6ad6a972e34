"""Inputs of linear layers: both bases describe the same product, and the errors are those of the output."""

import numpy as np
import pytest

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.channelwise import channel_quantizer, fold
from qcompiler.quant.fit import fit_table
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.inputs import LinearInput, input_error

from ..runtime_ops import blocks
from .fitting import spread_channels, weights

F = np.float32
CHANNEL_COUNT = 32
KINDS = ["rows", "channels", "segments", "as it is", "blocks", "rotated", "token", "folded"]


def sample(seed=0):
    """Tokens of different sizes and channels of different centres, one token of zeros."""
    draw = np.random.default_rng(seed)
    x = spread_channels(seed, instances=3, tokens=10, channels=CHANNEL_COUNT, factor=8)
    x = (x + 3 * draw.standard_normal(CHANNEL_COUNT)) * np.exp2(draw.integers(-3, 3, (3, 10, 1)))
    x[1, 2] = 0
    return x.astype(F)


def norm(x):
    """Root mean square of every row in float64; 1 for zeros."""
    found = np.sqrt(np.mean(np.square(x.astype(np.float64)), axis=-1, keepdims=True))
    return np.where(found > 0, found, 1)


def unit(x):
    return (x / norm(x)).astype(F)


def item(kind, x, bits=4):
    if kind == "blocks":
        return LinearInput(BlockQuantizer(bits, 8, 0.97, 0.1))
    if kind == "rotated":
        return LinearInput(BlockQuantizer(bits, 16, rotate=8))
    if kind == "token":
        return LinearInput(BlockQuantizer(bits, CHANNEL_COUNT, rotate=32))
    if kind == "folded":
        found, table = fold(channel_quantizer(x, bits, 1.0), bits, "norm")
        return LinearInput(table, normalize=False, fold=found)
    if kind == "as it is":
        return LinearInput(fit_table(x, ROWS, bits, 4), normalize=False)
    axis = ROWS if kind == "rows" else CHANNELS
    return LinearInput(fit_table(unit(x), axis, bits, 4, integer=kind != "segments"))


def scales(kind, found, x):
    """What the quantizer rows of `x` were divided by, and the constant that is added to the product of each output."""
    weight = weights(CHANNEL_COUNT, 5)
    if kind == "folded":
        shift = found.fold.shift.astype(np.float64)
        return norm((x + shift) / found.fold.scale), shift @ weight
    rotate = found.quantizer.rotate if isinstance(found.quantizer, BlockQuantizer) else 1
    return norm(x) * np.sqrt(rotate), np.zeros(5)  # a Hadamard matrix of size n multiplies norms by sqrt(n)


@pytest.mark.parametrize("kind", KINDS)
def test_quantizer_rows_times_their_weight_are_the_product(kind):
    x, weight = sample(), weights(CHANNEL_COUNT, 5)
    found = item(kind, x)
    seen, quantized = found.rows(x)
    assert seen.dtype == quantized.dtype == F
    assert seen.shape == quantized.shape == (30, CHANNEL_COUNT)
    size, constant = scales(kind, found, x)
    product = seen.astype(np.float64) @ found.weight(weight) * size.reshape(-1, 1)
    expected = x.reshape(-1, CHANNEL_COUNT).astype(np.float64) @ weight + constant
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_quantized_rows_are_what_the_network_sees(kind):
    """Back in the basis of the float network, the same values as the call gives; both by paths of their own."""
    x, weight = sample(), weights(CHANNEL_COUNT, 5)
    found = item(kind, x)
    y = found(x)
    assert (y.dtype, y.shape) == (F, x.shape)
    assert np.abs(y - x).max() > 1e-3 * np.abs(x).max()  # something was quantized
    size, constant = scales(kind, found, x)
    product = found.rows(x)[1].astype(np.float64) @ found.weight(weight) * size.reshape(-1, 1)
    expected = y.reshape(-1, CHANNEL_COUNT).astype(np.float64) @ weight + constant
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_weigh_alike(kind):
    x = sample()
    seen, _ = item(kind, x).rows(x)
    used = np.abs(seen).max(axis=1) > 0
    assert used.sum() >= 29
    np.testing.assert_allclose(norm(seen[used]), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_there_and_back(kind):
    weight = weights(CHANNEL_COUNT, 5)
    found = item(kind, sample())
    np.testing.assert_allclose(found.original(found.weight(weight)), weight, rtol=1e-5, atol=1e-5)
    moved = kind in ("rotated", "token", "folded")
    assert np.array_equal(found.weight(weight), weight) != moved


def test_blocks_are_those_of_the_operators():
    """Operands by the reference of the operators; in rows they are divided by the norm of the rotated row."""
    x = sample()
    found = item("rotated", x)
    expected = blocks.quantize(x, 4, 16, 1.0, 0.25, rotate=8)
    values = (expected.values * expected.scale).reshape(-1, CHANNEL_COUNT)
    size = norm(blocks.rotate_rows(x, 8)).reshape(-1, 1)
    np.testing.assert_allclose(found.rows(x)[1], values / size, rtol=1e-5)


def test_one_static_quantizer_of_normalised_rows():
    """The definition, written out: the row norm comes off in front of the codes and back on behind them."""
    x = sample()
    found = LinearInput(fit_table(unit(x), ROWS, 4, 1))
    scale, zero = float(found.quantizer.scale[0]), float(found.quantizer.zero_point[0])
    steps = x / norm(x) / scale
    expected = (np.clip(np.rint(steps) + zero, 0, 15) - zero) * scale * norm(x)
    off = np.abs(found(x) - expected) > 1e-5 * np.abs(x).max()
    assert not off[np.abs(np.abs(steps - np.rint(steps)) - 0.5) > 1e-4].any()
    assert off.mean() < 0.01


def test_a_fold_comes_before_normalisation():
    """A fold leaves one static quantizer that is no table of normalised rows: the flag makes no difference."""
    x = sample()
    found = item("folded", x)
    other = LinearInput(found.quantizer, normalize=True, fold=found.fold)
    np.testing.assert_array_equal(found(x), other(x))
    for one, two in zip(found.rows(x), other.rows(x), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [3, 6])
def test_bits(kind, bits):
    assert item(kind, sample(), bits).bits == bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [3, 6])
def test_error_is_that_of_the_output(kind, bits):
    x, weight = sample(), weights(CHANNEL_COUNT, 5)
    found = item(kind, x, bits)
    lost = ((found(x).astype(np.float64) - x) / norm(x)) @ weight
    wanted = (x / norm(x)) @ weight
    expected = np.square(lost).sum() / np.square(wanted).sum()
    assert input_error(found, x, weight) == pytest.approx(expected, rel=1e-4)
    assert 1e-6 < expected < 0.5


@pytest.mark.parametrize("kind", ["rows", "channels", "blocks", "rotated"])
def test_no_token_counts_more_than_another(kind):
    """Powers of two change no code."""
    x, weight = sample(), weights(CHANNEL_COUNT, 5)
    found = item(kind, x)
    scaled = x * np.exp2(np.random.default_rng(0).integers(-6, 7, (3, 10, 1))).astype(F)
    assert input_error(found, scaled, weight) == pytest.approx(input_error(found, x, weight), rel=1e-3)


def test_the_constant_of_a_fold_is_no_signal():
    """Channels far from zero move a large constant into the output of the folded layer: it hides no error."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 50, 8)).astype(F)
    x[..., 7] += 40
    weight = draw.standard_normal((8, 6)).astype(F)
    weight[7] = 0  # what lies far from zero does not matter to the layer
    quantizer = channel_quantizer(x, 4, np.inf)
    found, table = fold(quantizer, 4, "norm")
    steps = np.clip(np.rint(x / quantizer.scale) + quantizer.zero_point, 0, 15) - quantizer.zero_point
    lost, wanted = (steps * quantizer.scale - x) / norm(x) @ weight, x / norm(x) @ weight
    expected = np.square(lost).sum() / np.square(wanted).sum()
    error = input_error(LinearInput(table, normalize=False, fold=found), x, weight)
    assert error == pytest.approx(expected, rel=0.02)


def test_error_of_zeros():
    x = np.zeros((2, 3, CHANNEL_COUNT), F)
    for kind in ("rows", "blocks", "rotated"):
        assert input_error(item(kind, sample()), x, weights(CHANNEL_COUNT, 5)) == 0
