"""Grids of weights against brute force: every clip ratio, and every multiple and zero point of a block."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.weight_grid import (
    CLIP_RATIOS,
    OPERAND_LIMIT,
    REACHES,
    WeightBlocks,
    WeightGrid,
    block_grid,
    channel_grid,
)

from .fitting import weights

F = np.float32


def column_error(weight, scale, bits, importance):
    """Weighted squared error of one column on symmetric codes, in float64."""
    top, w = 2 ** (bits - 1) - 1, weight.astype(np.float64)
    return (importance * (w - scale * np.clip(np.rint(w / scale), -top, top)) ** 2).sum()


def block_error(weight, scale, multiplier, zero, bits, importance):
    """Weighted squared error of the weights of one block of one column, each at the nearest of all values."""
    values = float(scale) * int(multiplier) * (np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) - int(zero))
    distance = np.abs(weight.astype(np.float64)[:, None] - values).min(axis=1)
    return (importance * distance**2).sum()


def grid_error(weight, grid, importance):
    """Error of every column under a grid of blocks."""
    size = len(weight) // len(grid.blocks.multiplier)
    total = np.zeros(weight.shape[1])
    for k, d in np.ndindex(grid.blocks.multiplier.shape):
        part = slice(k * size, (k + 1) * size)
        m, z = grid.blocks.multiplier[k, d], grid.blocks.zero_point[k, d]
        total[d] += block_error(weight[part, d], grid.scale[d], m, z, grid.bits, importance[part])
    return total


def least_block_error(weight, bits, block, importance):
    """Every scale that is tried, and for it every multiple and zero point whose operands are within the limit."""
    bottom, top = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    pairs = [
        (m, z)
        for m, z in product(range(1, 16), range(max(bottom, -8), min(top, 7) + 1))
        if max(abs(m * (bottom - z)), abs(m * (top - z))) <= OPERAND_LIMIT
    ]
    found = np.empty(weight.shape[1])
    for d in range(weight.shape[1]):
        largest = np.abs(weight[:, d]).max()
        scales = [largest / (min(15 * 2 ** (bits - 1), OPERAND_LIMIT) * reach) for reach in REACHES]
        found[d] = min(
            sum(
                min(block_error(weight[b : b + block, d], s, m, z, bits, importance[b : b + block]) for m, z in pairs)
                for b in range(0, len(weight), block)
            )
            for s in scales
        )
    return found


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_scales_are_the_best_of_the_candidates(bits):
    weight = weights()
    importance = np.random.default_rng(1).uniform(0.1, 5, len(weight)).astype(F)
    grid = channel_grid(weight, bits, importance)
    assert (grid.bits, grid.blocks, grid.scale.dtype) == (bits, None, F)
    assert (grid.low, grid.high) == (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    for column, scale in enumerate(grid.scale):
        full = np.abs(weight[:, column]).max() / grid.high
        least = min(column_error(weight[:, column], full * float(r), bits, importance) for r in CLIP_RATIOS)
        assert column_error(weight[:, column], float(scale), bits, importance) <= least * (1 + 1e-4)


@pytest.mark.parametrize(("block", "column", "total"), [(8, 1.5, 1.15), (16, 1.15, 1.04), (32, 1.03, 1.005)])
@pytest.mark.parametrize("offset", [0, 0.5, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
def test_blocks_are_close_to_brute_force(bits, offset, block, column, total):
    """Not all multiples and zero points are tried: what that may cost a column, and all of them; least for long blocks.

    Offsets make blocks whose weights are all of one sign.
    """
    draw = np.random.default_rng(bits)
    weight = weights(64, 4, seed=block)
    weight += F(offset) * np.repeat(draw.normal(size=(64 // block, 4)), block, axis=0).astype(F)
    importance = draw.uniform(0.1, 2, 64).astype(F)
    found = grid_error(weight, block_grid(weight, bits, block, importance), importance)
    least = least_block_error(weight, bits, block, importance)
    assert (found >= least * (1 - 1e-3)).all()  # brute force leaves nothing out
    assert (found <= column * least).all()
    assert found.sum() <= total * least.sum()


@settings(deadline=None, max_examples=80)
@given(
    bits=st.integers(2, 6),
    block=st.integers(1, 9),
    count=st.integers(1, 4),
    outputs=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 1e6]),
)
def test_any_blocks(bits, block, count, outputs, seed, size):
    """Shapes, ranges, and operands within the limit; all weights of a sign too."""
    draw = np.random.default_rng(seed)
    weight = (weights(block * count, outputs, seed) + draw.integers(-3, 4)).astype(F) * F(size)
    grid = block_grid(weight, bits, block)
    multiplier, zero = grid.blocks.multiplier.astype(int), grid.blocks.zero_point.astype(int)
    assert (grid.blocks.multiplier.dtype, grid.blocks.zero_point.dtype, grid.scale.dtype) == (np.uint8, np.int8, F)
    assert multiplier.shape == zero.shape == (count, outputs)
    assert grid.scale.shape == (outputs,)
    assert (grid.scale > 0).all() and np.isfinite(grid.scale).all()
    assert multiplier.min() >= 1 and multiplier.max() <= 15
    assert (grid.low, grid.high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert zero.min() >= max(grid.low, -8) and zero.max() <= min(grid.high, 7)
    for code in (grid.low, grid.high):
        assert np.abs(multiplier * (code - zero)).max() <= OPERAND_LIMIT
    step, middle = grid.steps(len(weight))
    for c, d in np.ndindex(weight.shape):
        assert step[c, d] == F(multiplier[c // block, d]) * grid.scale[d]
        assert middle[c, d] == zero[c // block, d]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 8), st.integers(1, 9), st.integers(1, 5), st.integers(0, 999))
def test_steps_without_blocks(bits, channels, outputs, seed):
    weight = weights(channels, outputs, seed)
    grid = channel_grid(weight, bits)
    step, zero = (np.broadcast_to(part, weight.shape) for part in grid.steps(channels))
    assert (step == grid.scale).all() and not zero.any()


@given(st.integers(1, 15), st.integers(-8, 7))
def test_packed(multiplier, zero):
    found = WeightBlocks(np.array([[multiplier]], np.uint8), np.array([[zero]], np.int8)).packed()
    assert found.dtype == np.uint8
    assert found.item() == multiplier * 16 + zero + 8


def test_packed_plain_weights():
    """The byte that the operators take for multiple 1 and zero point 0."""
    assert WeightBlocks(np.ones((1, 3), np.uint8), np.zeros((1, 3), np.int8)).packed().tolist() == [[0x18] * 3]


@pytest.mark.parametrize("block", [0, 6])
def test_columns_are_independent(block):
    weight = weights()
    fit = (lambda w: block_grid(w, 4, block)) if block else (lambda w: channel_grid(w, 4))
    grid, alone = fit(weight), [fit(weight[:, d : d + 1]) for d in range(weight.shape[1])]
    np.testing.assert_array_equal(grid.scale, np.concatenate([item.scale for item in alone]))
    if block:
        found = np.concatenate([item.blocks.packed() for item in alone], axis=1)
        np.testing.assert_array_equal(grid.blocks.packed(), found)


@pytest.mark.parametrize("block", [0, 4])
def test_importance_matters(block):
    """All of the error on one channel is avoided at the cost of the others."""
    weight, favoured = weights(seed=2), np.full(24, 1e-4, F)
    favoured[3] = 1
    lost = []
    for importance in (None, favoured):
        grid = block_grid(weight, 2, block, importance) if block else channel_grid(weight, 2, importance)
        step, zero = (np.broadcast_to(part, weight.shape)[3] for part in grid.steps(24))
        code = np.clip(np.rint(weight[3] / step) + zero, grid.low, grid.high)
        lost.append(np.square(weight[3] - step * (code - zero)).sum())
    assert lost[1] < 0.75 * lost[0]


@pytest.mark.parametrize("value", [0, 1e-45, 1e-40, 1e-31])
@pytest.mark.parametrize("block", [0, 4])
def test_outputs_that_weight_decay_has_switched_off(block, value):
    """Subnormal weights leave no room for a scale below them: such an output channel becomes zeros."""
    weight = weights()
    weight[:, 2] = F(value) * np.sign(weight[:, 2])
    with np.errstate(all="raise", under="ignore"):
        grid = block_grid(weight, 4, block) if block else channel_grid(weight, 4)
    assert np.isfinite(grid.scale).all() and (grid.scale > 1e-30).all()
    step, zero = (np.broadcast_to(part, weight.shape)[:, 2] for part in grid.steps(24))
    assert not (np.clip(np.rint(weight[:, 2] / step) + zero, grid.low, grid.high) - zero).any()


def test_blocks_beat_one_scale():
    """Parts of a column that differ in size and in offset."""
    draw = np.random.default_rng(7)
    size, offset = np.geomspace(0.1, 1, 8)[:, None], draw.normal(size=(8, 6))
    weight = (draw.normal(size=(64, 6)) * np.repeat(size, 8, 0) + np.repeat(offset * size, 8, 0)).astype(F)
    blocks, grid = block_grid(weight, 4, 8), channel_grid(weight, 4)
    ones = np.ones(64)
    plain = [column_error(weight[:, d], float(grid.scale[d]), 4, ones) for d in range(6)]
    assert grid_error(weight, blocks, ones).sum() < 0.3 * sum(plain)


def test_a_grid_by_hand():
    blocks = WeightBlocks(np.array([[2, 1], [3, 15]], np.uint8), np.array([[0, -8], [7, 1]], np.int8))
    step, zero = WeightGrid(4, np.array([0.5, 2], F), blocks).steps(4)
    assert step.tolist() == [[1, 2], [1, 2], [1.5, 30], [1.5, 30]]
    assert zero.tolist() == [[0, -8], [0, -8], [7, 1], [7, 1]]
