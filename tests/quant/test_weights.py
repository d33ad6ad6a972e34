"""Weight rounding: clipped scales against brute force, compensation against a plain float64 algorithm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.weights import (
    CLIP_RATIOS,
    QuantizedWeight,
    channel_scales,
    compensate_inputs,
    round_to_nearest,
    second_order,
)

F = np.float32


def weights(channels=24, outputs=10, seed=0):
    draw = np.random.default_rng(seed)
    return (draw.standard_normal((channels, outputs)) * draw.uniform(0.2, 3, outputs)).astype(F)


def correlated(rows, channels, seed=0):
    """Inputs of low effective rank, as a network's activations are."""
    draw = np.random.default_rng(seed)
    mixed = draw.standard_normal((rows, channels // 4)) @ draw.standard_normal((channels // 4, channels))
    return mixed + 0.3 * draw.standard_normal((rows, channels))


def plain_second_order(weight, scale, bits, hessian, damping):
    """Optimal brain quantization in a fixed order: one channel at a time, the inverse updated by elimination."""
    top = 2 ** (bits - 1) - 1
    damped = hessian + np.eye(len(hessian)) * damping * np.diag(hessian).mean()
    inverse = np.linalg.inv(damped)
    left = weight.astype(np.float64)
    codes = np.zeros(weight.shape, np.int64)
    for i in np.argsort(-np.diag(hessian), kind="stable"):
        codes[i] = np.clip(np.rint(left[i] / scale), -top, top)
        lost = (left[i] - codes[i] * scale.astype(np.float64)) / inverse[i, i]
        left -= np.outer(inverse[:, i], lost)
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return codes


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_scales_are_the_best_of_the_candidates(bits):
    weight, top = weights(), 2 ** (bits - 1) - 1
    importance = np.random.default_rng(1).uniform(0.1, 5, len(weight)).astype(F)
    scales = channel_scales(weight, bits, importance)

    def error(column, scale):
        w = weight[:, column].astype(np.float64)
        return (importance * (w - scale * np.clip(np.rint(w / scale), -top, top)) ** 2).sum()

    for column in range(weight.shape[1]):
        full = np.abs(weight[:, column]).max() / top
        least = min(error(column, full * float(ratio)) for ratio in CLIP_RATIOS)
        assert error(column, float(scales[column])) <= least * (1 + 1e-4)


def test_importance_matters():
    weight = weights(seed=2)
    importance = np.full(len(weight), 1e-3, F)
    importance[3] = 1
    plain, favoured = round_to_nearest(weight, 3), round_to_nearest(weight, 3, importance)
    lost = [np.abs(found.dequantized()[3] - weight[3]).sum() for found in (plain, favoured)]
    assert lost[1] < 0.5 * lost[0]


def test_columns_are_independent():
    weight = weights()
    alone = np.concatenate([channel_scales(weight[:, d : d + 1], 4) for d in range(weight.shape[1])])
    np.testing.assert_array_equal(channel_scales(weight, 4), alone)


def test_column_of_zeros():
    weight = weights()
    weight[:, 2] = 0
    found = round_to_nearest(weight, 4)
    assert (found.scale > 0).all()
    assert not found.dequantized()[:, 2].any()


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 8), st.integers(1, 9), st.integers(1, 7), st.integers(0, 999))
def test_nearest_codes(bits, channels, outputs, seed):
    weight, top = weights(channels, outputs, seed), 2 ** (bits - 1) - 1
    found = round_to_nearest(weight, bits)
    assert found.codes.dtype == np.int8
    assert found.codes.shape == weight.shape
    assert found.scale.shape == (outputs,)
    assert found.bits == bits
    assert np.abs(found.codes.astype(int)).max() <= top
    # No other code of the width is nearer.
    every = np.arange(-top, top + 1)[:, None, None] * found.scale.astype(np.float64)
    least = np.abs(weight - every).min(axis=0)
    np.testing.assert_allclose(np.abs(weight - found.dequantized()), least, rtol=0, atol=1e-6 * np.abs(weight).max())


def test_dequantized():
    found = QuantizedWeight(np.array([[-7, 3], [0, 7]], np.int8), np.array([0.5, 2], F), 4)
    assert found.dequantized().tolist() == [[-3.5, 6], [0, 14]]
    assert found.dequantized().dtype == F


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_diagonal_hessian_is_rounding_to_nearest(bits):
    weight = weights(100, 12)
    diagonal = np.random.default_rng(3).uniform(0.1, 9, 100)
    found = second_order(weight, bits, np.diag(diagonal))
    expected = round_to_nearest(weight, bits, diagonal.astype(F))
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.scale, expected.scale)


@pytest.mark.parametrize("channels", [12, 64, 65, 150])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_compensation_is_the_plain_algorithm(channels, damping):
    """Below, at and above the block length, and over several blocks: the same integers."""
    weight = weights(channels, 9, seed=channels)
    inputs = correlated(4 * channels, channels, seed=1)
    hessian = inputs.T @ inputs
    found = second_order(weight, 4, hessian, damping)
    scale = channel_scales(weight, 4, np.diag(hessian).astype(F))
    np.testing.assert_array_equal(found.scale, scale)
    np.testing.assert_array_equal(found.codes, plain_second_order(weight, scale, 4, hessian, damping))


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_compensation_lowers_the_error_of_the_output(bits, seed):
    weight = weights(48, 20, seed)
    inputs = correlated(400, 48, seed)
    nearest = round_to_nearest(weight, bits, (inputs**2).mean(0).astype(F))
    compensated = second_order(weight, bits, inputs.T @ inputs)
    lost = [np.square(inputs @ (found.dequantized() - weight)).sum() for found in (nearest, compensated)]
    assert lost[1] < 0.8 * lost[0]


def test_fewer_inputs_than_channels():
    inputs = correlated(5, 48)
    found = second_order(weights(48, 6), 4, inputs.T @ inputs)
    assert np.abs(found.codes.astype(int)).max() <= 7
    assert np.square(inputs @ (found.dequantized() - weights(48, 6))).sum() < np.square(inputs @ weights(48, 6)).sum()


def test_dead_input_channel_is_rounded_to_nearest():
    inputs = correlated(100, 16)
    inputs[:, 5] = 0
    weight = weights(16, 6)
    found = second_order(weight, 8, inputs.T @ inputs)
    nearest = np.clip(np.rint(weight[5] / found.scale), -127, 127)
    np.testing.assert_array_equal(found.codes[5], nearest)


def test_zero_hessian_is_rounding_to_nearest():
    weight = weights()
    found, expected = second_order(weight, 4, np.zeros((24, 24))), round_to_nearest(weight, 4)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.scale, expected.scale)


def test_arguments_are_not_changed():
    weight, inputs = weights(), correlated(90, 24)
    hessian = inputs.T @ inputs
    copies = weight.copy(), hessian.copy()
    second_order(weight, 4, hessian)
    np.testing.assert_array_equal(weight, copies[0])
    np.testing.assert_array_equal(hessian, copies[1])


def test_compensation_is_the_minimum_of_its_objective():
    """Least squares on stacked rows: the data, and `sqrt(lambda)` times the identity that pulls towards the weights."""
    weight, inputs = weights(12, 4), correlated(60, 12)
    quantized = np.rint(inputs)
    strength = 0.3 * np.trace(quantized.T @ quantized) / 12
    rows = np.concatenate([quantized, np.sqrt(strength) * np.eye(12)])
    wanted = np.concatenate([inputs @ weight, np.sqrt(strength) * weight])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    found = compensate_inputs(weight, inputs.astype(F), quantized.astype(F), ridge=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - weight).max() > 1e-3  # there was something to compensate


def test_compensation_leaves_weights_alone_where_nothing_is_lost():
    weight, inputs = weights(12, 4), correlated(60, 12).astype(F)
    np.testing.assert_allclose(compensate_inputs(weight, inputs, inputs), weight, rtol=1e-4, atol=1e-6)
    zeros = np.zeros_like(inputs)
    np.testing.assert_allclose(compensate_inputs(weight, zeros, zeros), weight, rtol=1e-6)
