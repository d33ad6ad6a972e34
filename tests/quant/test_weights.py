"""Weight rounding: nearest values by brute force, compensation against a plain float64 algorithm."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.moments import InputMoments
from qcompiler.quant.weight_grid import WeightBlocks, WeightGrid, block_grid, channel_grid
from qcompiler.quant.weights import (
    DAMPING,
    QuantizedWeight,
    compensate_inputs,
    damping_for,
    round_to_nearest,
    second_order,
)

from .fitting import correlated, moments_of, weights

F = np.float32


def grid_of(weight, bits, block, importance=None):
    return block_grid(weight, bits, block, importance) if block else channel_grid(weight, bits, importance)


def every_value(grid, channels):
    """All values `[codes, C, D]` of a grid, in float64."""
    codes = np.arange(-(2 ** (grid.bits - 1)) + (grid.blocks is None), 2 ** (grid.bits - 1))[:, None, None]
    if grid.blocks is None:
        return codes * np.broadcast_to(grid.scale.astype(np.float64), (channels, len(grid.scale)))
    size = channels // len(grid.blocks.multiplier)
    m, z = (np.repeat(x.astype(np.int64), size, axis=0) for x in (grid.blocks.multiplier, grid.blocks.zero_point))
    return m * (codes - z) * grid.scale.astype(np.float64)


def plain_second_order(weight, grid, hessian, damping):
    """Optimal brain quantization in a fixed order: one channel at a time, the inverse updated by elimination."""
    values = every_value(grid, len(weight))
    damped = hessian + np.eye(len(hessian)) * damping * np.diag(hessian).mean()
    inverse = np.linalg.inv(damped)
    left = weight.astype(np.float64)
    found = np.empty_like(left)
    for i in np.argsort(-np.diag(hessian), kind="stable"):
        nearest = np.abs(left[i] - values[:, i]).argmin(axis=0)
        found[i] = np.take_along_axis(values[:, i], nearest[None], axis=0)[0]
        left -= np.outer(inverse[:, i], (left[i] - found[i]) / inverse[i, i])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return found


@settings(deadline=None, max_examples=80)
@given(
    bits=st.integers(2, 8),
    block=st.integers(0, 5),
    count=st.integers(1, 3),
    outputs=st.integers(1, 7),
    seed=st.integers(0, 999),
)
def test_nearest_codes(bits, block, count, outputs, seed):
    """No other value of the grid is nearer."""
    bits = min(bits, 4) if block else bits
    weight = weights((block or 3) * count, outputs, seed)
    grid = grid_of(weight, bits, block)
    found = round_to_nearest(weight, grid)
    assert found.codes.dtype == np.int8
    assert found.codes.shape == weight.shape
    assert found.bits == bits
    assert found.scale is grid.scale and found.blocks is grid.blocks
    assert found.codes.min() >= grid.low and found.codes.max() <= grid.high
    least = np.abs(weight - every_value(grid, len(weight))).min(axis=0)
    np.testing.assert_allclose(np.abs(weight - found.dequantized()), least, rtol=0, atol=1e-6 * np.abs(weight).max())


def test_dequantized():
    found = QuantizedWeight(np.array([[-7, 3], [0, 7]], np.int8), np.array([0.5, 2], F), 4)
    assert found.operand().tolist() == [[-7, 3], [0, 7]]
    assert found.dequantized().tolist() == [[-3.5, 6], [0, 14]]
    assert found.operand().dtype == found.dequantized().dtype == F


def test_dequantized_blocks():
    blocks = WeightBlocks(np.array([[2, 1], [3, 15]], np.uint8), np.array([[0, -8], [7, -1]], np.int8))
    codes = np.array([[-8, 7], [7, -8], [-8, 7], [7, -8]], np.int8)
    found = QuantizedWeight(codes, np.array([0.5, 2], F), 4, blocks)
    assert found.operand().tolist() == [[-16, 15], [14, 0], [-45, 120], [0, -105]]
    assert found.dequantized().tolist() == [[-8, 30], [7, 0], [-22.5, 240], [0, -210]]
    assert found.operand().dtype == found.dequantized().dtype == F


@pytest.mark.parametrize("block", [0, 10, 100])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_diagonal_hessian_is_rounding_to_nearest(bits, block):
    weight = weights(100, 12)
    diagonal = np.random.default_rng(3).uniform(0.1, 9, 100)
    grid = grid_of(weight, bits, block, diagonal.astype(F))
    found, expected = second_order(weight, grid, np.diag(diagonal)), round_to_nearest(weight, grid)
    np.testing.assert_array_equal(found.codes, expected.codes)
    assert found.scale is grid.scale and found.blocks is grid.blocks


@pytest.mark.parametrize(("channels", "block"), [(12, 0), (64, 0), (65, 0), (150, 0), (12, 4), (96, 32), (150, 50)])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_compensation_is_the_plain_algorithm(channels, block, damping):
    """Below, at and above the number of channels that are updated together: the same integers."""
    weight = weights(channels, 9, seed=channels)
    inputs = correlated(4 * channels, channels, seed=1)
    hessian = inputs.T @ inputs
    grid = grid_of(weight, 4, block, np.diag(hessian).astype(F))
    found = second_order(weight, grid, hessian, damping).dequantized()
    np.testing.assert_allclose(found, plain_second_order(weight, grid, hessian, damping), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("block", [0, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_compensation_lowers_the_error_of_the_output(bits, block, seed):
    weight = weights(48, 20, seed)
    inputs = correlated(400, 48, seed)
    grid = grid_of(weight, bits, block, (inputs**2).mean(0).astype(F))
    lost = [
        np.square(inputs @ (found.dequantized() - weight)).sum()
        for found in (round_to_nearest(weight, grid), second_order(weight, grid, inputs.T @ inputs))
    ]
    assert lost[1] < 0.8 * lost[0]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    bits=st.integers(2, 6),
    channels=st.integers(2, 40),
    rows=st.integers(1, 200),
    block=st.sampled_from([0, 1, 2]),
    seed=st.integers(0, 9999),
)
def test_compensation_does_no_harm(bits, channels, rows, block, seed):
    """In the norm of the damped Hessian, which it minimises: greedy, so that single cases may lose up to a tenth."""
    block = channels // block if block and bits <= 4 and channels % block == 0 else 0
    weight, inputs = weights(channels, 16, seed), correlated(rows, channels, seed)
    hessian = inputs.T @ inputs
    grid = grid_of(weight, bits, block, np.diag(hessian).astype(F))
    damped = hessian + 0.3 * np.diag(hessian).mean() * np.eye(channels)
    lost = []
    for found in (round_to_nearest(weight, grid), second_order(weight, grid, hessian, 0.3)):
        difference = found.dequantized().astype(np.float64) - weight
        lost.append(np.einsum("cd,ce,ed->", difference, damped, difference))
    assert lost[1] <= 1.1 * lost[0]


def test_fewer_inputs_than_channels():
    inputs, weight = correlated(5, 48), weights(48, 6)
    found = second_order(weight, channel_grid(weight, 4), inputs.T @ inputs)
    assert np.abs(found.codes.astype(int)).max() <= 7
    assert np.square(inputs @ (found.dequantized() - weight)).sum() < 0.1 * np.square(inputs @ weight).sum()


def test_damping_grows_with_the_share_of_chance():
    """Rows of independent channels: what the Hessian says about correlations is chance, most of it with few rows."""
    assert damping_for(1e9, 10) == pytest.approx(DAMPING)
    channels, outputs = 32, 400
    draw = np.random.default_rng(0)
    weight, fresh = weights(channels, outputs), draw.standard_normal((20000, channels))
    grid = channel_grid(weight, 3)
    for rows, share in ((2 * channels, 0.9), (8 * channels, 0.99)):
        inputs = draw.standard_normal((rows, channels))
        lost = [
            np.square(fresh @ (second_order(weight, grid, inputs.T @ inputs, damping).dequantized() - weight)).sum()
            for damping in (DAMPING, damping_for(rows, channels))
        ]
        assert lost[1] < share * lost[0]


def test_dead_input_channel_is_rounded_to_nearest():
    inputs = correlated(100, 16)
    inputs[:, 5] = 0
    weight = weights(16, 6)
    grid = channel_grid(weight, 8)
    found, nearest = second_order(weight, grid, inputs.T @ inputs), round_to_nearest(weight, grid)
    np.testing.assert_array_equal(found.codes[5], nearest.codes[5])
    assert (found.codes != nearest.codes).any()


@pytest.mark.parametrize("block", [0, 8])
def test_zero_hessian_is_rounding_to_nearest(block):
    weight = weights()
    grid = grid_of(weight, 4, block)
    found, expected = second_order(weight, grid, np.zeros((24, 24))), round_to_nearest(weight, grid)
    np.testing.assert_array_equal(found.codes, expected.codes)


def test_a_hessian_in_float32_is_worked_on_in_float64():
    """Nearly singular and hardly damped: in float32 its inverse would be noise."""
    weight, inputs = weights(32, 8), correlated(16, 32)
    hessian = (inputs.T @ inputs).astype(F)
    grid = channel_grid(weight, 4)
    found = second_order(weight, grid, hessian, 1e-6).codes
    np.testing.assert_array_equal(found, second_order(weight, grid, hessian.astype(np.float64), 1e-6).codes)


def test_memory_of_wide_layers():
    """In units of one float64 matrix `[C, C]`: the matrix itself, its float32 form on the way, and the weights."""
    inner = 512
    weight, inputs = weights(inner, 8), correlated(600, inner).astype(F)
    gram = inputs.T @ inputs
    moments = InputMoments(gram, gram, len(inputs))
    grid = channel_grid(weight, 4)
    for work, most in (
        (lambda: second_order(weight, grid, gram), 1.8),
        (lambda: compensate_inputs(weight, moments), 2.3),
    ):
        tracemalloc.start()
        work()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 8 * inner**2 < peak < most * 8 * inner**2


def test_arguments_are_not_changed():
    weight, inputs = weights(), correlated(90, 24)
    hessian = inputs.T @ inputs
    copies = weight.copy(), hessian.copy()
    second_order(weight, channel_grid(weight, 4), hessian)
    np.testing.assert_array_equal(weight, copies[0])
    np.testing.assert_array_equal(hessian, copies[1])


def test_grids_serve_weights_that_they_were_not_fitted_to():
    """Values beyond the grid take its last code; a grid of a basis may be used for the compensated weight."""
    grid = WeightGrid(3, np.ones(2, F))
    assert round_to_nearest(np.array([[9, -9], [2.4, -0.5]], F), grid).codes.tolist() == [[3, -3], [2, 0]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("ridge", [0.01, 0.3, 3])
def test_compensation_is_the_minimum_of_its_objective(ridge, dtype):
    """Least squares on stacked rows: the data, and `sqrt(lambda)` times the identity that pulls towards the weights."""
    weight, inputs = weights(12, 4), correlated(60, 12)
    quantized = np.rint(inputs)
    strength = ridge * np.trace(quantized.T @ quantized) / 12
    rows = np.concatenate([quantized, np.sqrt(strength) * np.eye(12)])
    wanted = np.concatenate([inputs @ weight, np.sqrt(strength) * weight])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    exact = moments_of(quantized, inputs)
    moments = InputMoments(*(x.astype(dtype) for x in (exact.gram, exact.cross)), exact.rows)
    found = compensate_inputs(weight, moments, ridge)
    assert found.dtype == F
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - weight).max() > 1e-3  # there was something to compensate


def test_compensation_leaves_weights_alone_where_nothing_is_lost():
    weight, inputs = weights(12, 4), correlated(60, 12).astype(F)
    np.testing.assert_allclose(compensate_inputs(weight, moments_of(inputs)), weight, rtol=1e-5, atol=1e-6)
    zeros = np.zeros_like(inputs)
    np.testing.assert_allclose(compensate_inputs(weight, moments_of(zeros, inputs)), weight, rtol=1e-6)
