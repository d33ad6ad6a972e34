"""Coordinate descent: its optimality conditions, brute force over all codes, and errors that never rise."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.coordinate_descent import OUTPUTS, coordinate_descent
from qcompiler.quant.weight_grid import WeightGrid, block_grid, channel_grid
from qcompiler.quant.weights import round_to_nearest, second_order

from .fitting import correlated, weights

F = np.float32
DAMPING = 0.1


def grid_of(weight, bits, block, inputs):
    energy = np.square(inputs).sum(axis=0).astype(F)
    return block_grid(weight, bits, block, energy) if block else channel_grid(weight, bits, energy)


def damped(hessian):
    return hessian + np.eye(len(hessian)) * DAMPING * np.diag(hessian).mean()


def errors(weight, value, hessian):
    """Of every output, from the definition."""
    difference = value.astype(np.float64) - weight
    return np.einsum("cd,ce,ed->d", difference, damped(hessian), difference)


def values(found, codes):
    """What other codes of the same grid stand for, float64 `[..., C, D]`."""
    scale = found.scale.astype(np.float64)
    if found.blocks is None:
        return codes * scale
    size = found.codes.shape[0] // len(found.blocks.multiplier)
    m, z = (np.repeat(x.astype(np.float64), size, axis=0) for x in (found.blocks.multiplier, found.blocks.zero_point))
    return m * (codes - z) * scale


@settings(deadline=None, max_examples=80)
@given(
    bits=st.integers(2, 8),
    channels=st.integers(1, 140),
    outputs=st.integers(1, 9),
    rows=st.integers(1, 300),
    blocks=st.integers(0, 4),
    is_nearest=st.booleans(),
    seed=st.integers(0, 999),
)
def test_never_worse_than_what_it_began_with(bits, channels, outputs, rows, blocks, is_nearest, seed):
    """For every output by itself, on codes of the width and the same blocks."""
    block = channels // blocks if blocks and channels % blocks == 0 and bits <= 6 else 0
    weight, inputs = weights(channels, outputs, seed), correlated(rows, channels, seed)
    hessian = inputs.T @ inputs
    grid = grid_of(weight, bits, block, inputs)
    start = round_to_nearest(weight, grid) if is_nearest else second_order(weight, grid, hessian, DAMPING)
    found = coordinate_descent(weight, start, hessian, DAMPING)
    assert found.codes.dtype == np.int8 and found.scale.dtype == F
    assert found.bits == bits and found.blocks is start.blocks
    assert found.codes.min() >= grid.low and found.codes.max() <= grid.high
    assert (found.scale > 0).all()
    before, after = (errors(weight, item.dequantized(), hessian) for item in (start, found))
    largest = np.einsum("cd,ce,ed->d", weight, damped(hessian), weight, dtype=np.float64)
    assert (after <= before * (1 + 1e-6) + 1e-9 * largest).all()


@pytest.mark.parametrize(("channels", "block"), [(20, 0), (63, 0), (64, 0), (65, 0), (150, 0), (24, 8), (160, 32)])
@pytest.mark.parametrize("bits", [2, 4])
def test_no_single_code_could_be_better(channels, block, bits):
    """After sweeps enough, with the scales that it had then: every other code of every weight is tried."""
    weight, inputs = weights(channels, 5, seed=1), correlated(3 * channels, channels)
    hessian = inputs.T @ inputs
    grid = grid_of(weight, bits, block, inputs)
    start = round_to_nearest(weight, grid)
    found = coordinate_descent(weight, start, hessian, DAMPING, rounds=1, sweeps=60)
    at_old_scale = values(start, found.codes.astype(np.float64))
    least = errors(weight, at_old_scale, hessian)
    assert (found.codes != start.codes).any()
    for i in range(channels):
        for code in range(grid.low, grid.high + 1):
            codes = found.codes.astype(np.float64)
            codes[i] = code
            assert (errors(weight, values(start, codes), hessian) >= least * (1 - 1e-9)).all()


@pytest.mark.parametrize("block", [0, 8])
def test_scales_are_the_best_of_their_codes(block):
    """Least squares on rows whose second moment is the damped Hessian."""
    weight, inputs = weights(24, 6), correlated(90, 24)
    hessian = inputs.T @ inputs
    start = second_order(weight, grid_of(weight, 3, block, inputs), hessian, DAMPING)
    found = coordinate_descent(weight, start, hessian, DAMPING)
    rows = np.linalg.cholesky(damped(hessian)).T
    for d in range(6):
        operand = rows @ found.operand()[:, d].astype(np.float64)
        best = np.linalg.lstsq(operand[:, None], rows @ weight[:, d], rcond=None)[0][0]
        assert found.scale[d] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_close_to_the_best_of_all_codes(seed):
    """Brute force over all 7^5 codes at the scales that were found: most of what nearest codes lose is won back."""
    weight, inputs = weights(5, 8, seed), correlated(12, 5, seed)
    hessian = inputs.T @ inputs
    start = round_to_nearest(weight, grid_of(weight, 3, 0, inputs))
    found = coordinate_descent(weight, start, hessian, DAMPING, sweeps=20)
    every = np.array(list(itertools.product(range(-3, 4), repeat=5)), np.float64)
    matrix = damped(hessian)
    least, lost, nearest = [], [], []
    for d in range(8):
        difference = every * float(found.scale[d]) - weight[:, d]
        least.append(np.einsum("nc,ce,ne->n", difference, matrix, difference).min())
        codes = np.clip(np.rint(weight[:, d] / found.scale[d]), -3, 3) * found.scale[d] - weight[:, d]
        nearest.append(codes @ matrix @ codes)
        lost.append(errors(weight[:, d : d + 1], found.dequantized()[:, d : d + 1], hessian)[0])
    assert sum(lost) - sum(least) < 0.2 * (sum(nearest) - sum(least))


def test_pays_on_other_inputs():
    """Less error than second-order rounding alone, on rows that nothing was fitted to."""
    inputs, weight = correlated(6000, 96), weights(96, 40)
    seen, fresh = inputs[:4000], inputs[4000:]
    hessian = seen.T @ seen
    for block in (0, 16):
        start = second_order(weight, grid_of(weight, 4, block, seen), hessian, DAMPING)
        found = coordinate_descent(weight, start, hessian, DAMPING)
        lost = [np.square(fresh @ (item.dequantized() - weight)).sum() for item in (start, found)]
        assert lost[1] < 0.97 * lost[0]


def test_uncorrelated_inputs_keep_the_nearest_codes():
    weight, energy = weights(40, 7), np.random.default_rng(3).uniform(0.5, 4, 40)
    start = round_to_nearest(weight, channel_grid(weight, 4, energy.astype(F)))
    found = coordinate_descent(weight, start, np.diag(energy), DAMPING, rounds=1)
    np.testing.assert_array_equal(found.codes, start.codes)


def test_what_has_no_scale_of_its_own_keeps_it():
    """Outputs of zeros, codes of zeros, and inputs of zeros."""
    weight = weights(12, 3)
    weight[:, 1] = 0
    start = round_to_nearest(weight, WeightGrid(4, np.array([0.3, 0.5, 1e6], F)))
    inputs = correlated(50, 12)
    found = coordinate_descent(weight, start, inputs.T @ inputs, DAMPING)
    assert found.scale[1] == F(0.5) and not found.codes[:, 1].any()
    assert found.scale[2] == F(1e6) and not found.codes[:, 2].any()
    unseen = coordinate_descent(weight, start, np.zeros((12, 12), F), DAMPING)
    np.testing.assert_array_equal(unseen.codes, start.codes)
    np.testing.assert_array_equal(unseen.scale, start.scale)


@pytest.mark.parametrize("block", [0, 8])
def test_outputs_do_not_depend_on_each_other(block):
    """More of them than are worked on together: those at the edges get what they get alone."""
    weight, inputs = weights(24, OUTPUTS + 3), correlated(90, 24)
    hessian = inputs.T @ inputs
    start = round_to_nearest(weight, grid_of(weight, 3, block, inputs))
    found = coordinate_descent(weight, start, hessian, DAMPING)
    for part in (slice(0, 4), slice(OUTPUTS - 2, OUTPUTS + 3)):
        grid = grid_of(np.ascontiguousarray(weight[:, part]), 3, block, inputs)
        alone = coordinate_descent(weight[:, part], round_to_nearest(weight[:, part], grid), hessian, DAMPING)
        np.testing.assert_array_equal(found.codes[:, part], alone.codes)
        np.testing.assert_allclose(found.scale[part], alone.scale, rtol=1e-6)


def test_memory_of_wide_layers():
    """In units of one float64 matrix `[C, C]`: the matrix itself, and what hundreds of outputs need."""
    channels = 512
    weight, inputs = weights(channels, 2048), correlated(600, channels).astype(F)
    gram = inputs.T @ inputs
    start = round_to_nearest(weight, channel_grid(weight, 4))
    tracemalloc.start()
    coordinate_descent(weight, start, gram, DAMPING, rounds=1, sweeps=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 8 * channels**2 < peak < 5 * 8 * channels**2


def test_arguments_are_not_changed():
    weight, inputs = weights(24, 6), correlated(90, 24)
    hessian = inputs.T @ inputs
    start = round_to_nearest(weight, channel_grid(weight, 3))
    copies = [x.copy() for x in (weight, hessian, start.codes, start.scale)]
    found = coordinate_descent(weight, start, hessian, DAMPING)
    assert (found.codes != start.codes).any() and (found.scale != start.scale).any()
    for now, before in zip((weight, hessian, start.codes, start.scale), copies, strict=True):
        np.testing.assert_array_equal(now, before)


def test_twice_the_same():
    weight, inputs = weights(70, 20), correlated(300, 70)
    start = round_to_nearest(weight, channel_grid(weight, 4))
    first, second = (coordinate_descent(weight, start, (inputs.T @ inputs).astype(F), DAMPING) for _ in range(2))
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(first.scale, second.scale)
