"""Integer weights of a layer: which way of rounding is taken, in which basis, and that it pays."""

import numpy as np
import pytest

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.channelwise import channel_quantizer, fold
from qcompiler.quant.fit import fit_table
from qcompiler.quant.fit_weights import enough_rows, linear_weight, nearest_weight
from qcompiler.quant.groups import ROWS
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.weight_grid import block_grid, channel_grid
from qcompiler.quant.weights import round_to_nearest

from .fitting import correlated, moments_of, weights

F = np.float32
C = 32


def activations(begin=0, end=400):
    """Rows of one population."""
    return correlated(1000, C).astype(F)[None, begin:end]


def item(kind, x):
    if kind == "blocks":
        return LinearInput(BlockQuantizer(3, 16, rotate=8))
    if kind == "folded":
        found, table = fold(channel_quantizer(x, 3, 1.0), 3, "norm")
        return LinearInput(table, normalize=False, fold=found)
    return LinearInput(fit_table(x / np.sqrt(np.mean(x * x, -1, keepdims=True)), ROWS, 3, 4))


def moments(found, x):
    seen, quantized = found.rows(x)
    return moments_of(quantized, seen)


def nearest(found, weight, bits, block, given):
    basis, power = found.weight(weight), np.diag(given.gram).astype(F)
    return round_to_nearest(basis, block_grid(basis, bits, block, power) if block else channel_grid(basis, bits, power))


def output_error(found, weight, quantized, x):
    """Of the layer's output on rows, each by its own norm: from the rows, not from moments."""
    seen, rows = found.rows(x)
    wanted = seen.astype(np.float64) @ found.weight(weight)
    return np.square(rows.astype(np.float64) @ quantized.dequantized() - wanted).sum() / np.square(wanted).sum()


@pytest.mark.parametrize("kind", ["groups", "blocks", "folded"])
@pytest.mark.parametrize("block", [0, 8])
def test_second_order_pays_on_other_images(kind, block):
    """Clearly less error than with nearest codes, on rows that neither the fit nor the choice has seen."""
    x, weight = activations(), weights(C, 12)
    found = item(kind, x)
    given, held_out = moments(found, x), moments(found, activations(400, 600))
    quantized = linear_weight(weight, found, 3, block, given, held_out)
    assert quantized.bits == 3
    assert (quantized.blocks is not None) == bool(block)
    if block:
        assert quantized.blocks.multiplier.shape == (C // block, 12)
    plain = nearest(found, weight, 3, block, given)
    fresh = activations(600, 1000)
    assert output_error(found, weight, quantized, fresh) < 0.8 * output_error(found, weight, plain, fresh)


def test_too_few_rows_are_rounded_to_nearest():
    x, weight = activations(), weights(C, 12)
    found = item("groups", x)
    for rows, expected in ((3 * C - 1, True), (3 * C, False)):
        given = moments(found, x[:, :rows])
        quantized = linear_weight(weight, found, 4, 0, given, None)
        plain = nearest(found, weight, 4, 0, given)
        assert np.array_equal(quantized.codes, plain.codes) == expected


@pytest.mark.parametrize("kind", ["groups", "blocks", "folded"])
@pytest.mark.parametrize("block", [0, 8])
def test_too_few_rows_need_the_energy_alone(kind, block):
    x, weight = activations(end=C), weights(C, 12)
    found = item(kind, x)
    given = moments(found, x)
    assert not enough_rows(given.rows, C)
    assert enough_rows(3 * C, C)
    expected = nearest(found, weight, 3, block, given)
    alone = nearest_weight(weight, found, 3, block, np.diag(given.gram).astype(F))
    for quantized in (alone, linear_weight(weight, found, 3, block, given, None)):
        np.testing.assert_array_equal(quantized.codes, expected.codes)
        np.testing.assert_array_equal(quantized.scale, expected.scale)


@pytest.mark.parametrize("block", [0, 8])
def test_what_does_not_help_on_held_out_images_is_not_taken(block):
    """Held-out rows of another distribution: compensating the first one's errors hurts there."""
    weight = weights(C, 12)
    x, other = activations(), np.random.default_rng(5).standard_normal((1, 400, C)).astype(F)
    found = LinearInput(BlockQuantizer(6, C))
    given, held_out = moments(found, x), moments(found, other)
    quantized = linear_weight(weight, found, 3, block, given, held_out)
    trusted = linear_weight(weight, found, 3, block, given, None)
    plain = nearest(found, weight, 3, block, given)
    assert output_error(found, weight, plain, other) < output_error(found, weight, trusted, other)
    np.testing.assert_array_equal(quantized.codes, plain.codes)
    np.testing.assert_array_equal(quantized.scale, plain.scale)
    # And the other way round.
    np.testing.assert_array_equal(linear_weight(weight, found, 3, block, given, given).codes, trusted.codes)


def test_weights_compensate_the_quantizer_of_the_input():
    """Codes that lose a part of every channel systematically: the weights make up for it."""
    weight, x = weights(C, 12), activations()
    quantized_rows = np.trunc(x[0]) * 0.8
    found = LinearInput(BlockQuantizer(7, C))
    aware = linear_weight(weight, found, 6, 0, moments_of(quantized_rows, x[0]), None)
    unaware = linear_weight(weight, found, 6, 0, moments_of(quantized_rows), None)
    lost = [np.linalg.norm(quantized_rows @ item.dequantized() - x[0] @ weight) for item in (aware, unaware)]
    assert lost[0] < 0.7 * lost[1]


def test_layers_that_never_see_anything():
    """Inputs of zeros: finite weights."""
    x = np.zeros((1, 400, C), F)
    found = LinearInput(BlockQuantizer(4, C))
    for block in (0, 8):
        quantized = linear_weight(weights(C, 5), found, 4, block, moments(found, x), moments(found, x))
        assert np.isfinite(quantized.dequantized()).all()
