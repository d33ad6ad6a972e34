"""Clip and slack of blocks against all that may be tried, by the reference of the operators."""

from itertools import product

import numpy as np
import pytest

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.fit_blocks import CLIPS, SLACKS, fit_block_quantizer

from ..runtime_ops import blocks
from .fitting import correlated, weights

F = np.float32


def sample(seed=0, channels=64, rows=40):
    """Long tails, tokens of different sizes."""
    draw = np.random.default_rng(seed)
    x = draw.standard_t(4, (3, rows, channels)) * np.exp2(draw.uniform(-3, 3, (3, rows, 1)))
    return x.astype(F)


def error(x, quantizer, weight=None):
    """Squared error of every row relative to its size, in the rotated basis, channels by the energy of the weight."""
    found = blocks.quantize(
        x, quantizer.bits, quantizer.block, quantizer.clip, quantizer.slack, rotate=quantizer.rotate
    )
    rotated = blocks.rotate_rows(x, quantizer.rotate).astype(np.float64)
    lost = np.square(found.values * found.scale.astype(np.float64) - rotated) / np.square(rotated).mean(
        -1, keepdims=True
    )
    if weight is None:
        return lost.sum()
    # The rows of a weight mix when it is rotated, exactly as channels do.
    turned = blocks.rotate_rows(weight.T.astype(np.float64), quantizer.rotate).T
    return (lost.sum((0, 1)) * np.square(turned).sum(1)).sum()


@pytest.mark.parametrize("rotate", [1, 32])
@pytest.mark.parametrize("block", [16, 64])
@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("weighed", [False, True])
def test_close_to_the_best_of_all_pairs(bits, block, rotate, weighed):
    """Slack and clip are searched for one after the other: 3 % above the best pair at most, and never above plain."""
    x, weight = sample(bits + block), weights(64, 8) if weighed else None
    found = fit_block_quantizer(x, bits, block, rotate, weight)
    assert (found.bits, found.block, found.rotate) == (bits, block, rotate)
    pairs = [BlockQuantizer(bits, block, clip, slack, rotate) for clip, slack in product((1.0, *CLIPS), SLACKS)]
    least = min(error(x, option, weight) for option in pairs)
    assert found in pairs
    assert error(x, found, weight) <= 1.03 * least
    plain = min(error(x, BlockQuantizer(bits, block, 1.0, slack, rotate), weight) for slack in SLACKS)
    assert error(x, found, weight) <= plain * (1 + 1e-6)


def test_the_weight_matters():
    """Half of the channels have long tails that want clipping, half must not be clipped."""
    draw = np.random.default_rng(3)
    x = np.concatenate([draw.standard_t(2, (1, 200, 32)), draw.uniform(-1, 1, (1, 200, 32))], axis=-1).astype(F)
    found = []
    for part in (slice(0, 32), slice(32, 64)):
        weight = np.full((64, 4), 1e-6, F)
        weight[part] = 1
        found.append((fit_block_quantizer(x, 3, 16, 1, weight), weight))
    (first, tails), (second, flat) = found
    assert first != second
    assert error(x, first, tails) < error(x, second, tails)
    assert error(x, second, flat) < error(x, first, flat)


def test_tokens_count_alike():
    """Powers of two change no code, so they change no choice."""
    x = sample()
    scaled = x * np.exp2(np.random.default_rng(0).integers(-9, 9, (3, 40, 1))).astype(F)
    assert fit_block_quantizer(x, 4, 16, 1) == fit_block_quantizer(scaled, 4, 16, 1)


def test_a_thinned_sample_is_good_enough():
    """More rows than are tried: the choice is as good on all of them up to 1 %."""
    x = correlated(3000, 32, seed=2).astype(F)[None]
    found = fit_block_quantizer(x, 4, 8, 8)
    least = min(error(x, BlockQuantizer(4, 8, clip, slack, 8)) for clip, slack in product((1.0, *CLIPS), SLACKS))
    assert error(x, found) <= 1.01 * least


@pytest.mark.parametrize("shape", [(1, 16), (7, 16), (2, 3, 16), (2, 2, 5, 16)])
def test_any_leading_axes(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(F)
    assert fit_block_quantizer(x, 4, 4, 4) == fit_block_quantizer(x.reshape(1, -1, 16), 4, 4, 4)


def test_zeros():
    found = fit_block_quantizer(np.zeros((2, 3, 16), F), 4, 8, 1)
    assert not blocks.quantize(np.zeros((1, 16), F), 4, 8, found.clip, found.slack).values.any()
