"""Levels of the softmax quantizer against the exact optimum, found by dynamic programming."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompiler.quant.levels import CODEBOOK_SIZE, LOG2_UNIT, codebook_levels, log2_levels, uniform_levels

F = np.float32
TOP = CODEBOOK_SIZE - 1


def softmax_ratios(seed=0, rows=300, tokens=40):
    """Probabilities over their row's maximum: most are far below it."""
    scores = np.random.default_rng(seed).standard_normal((rows, tokens)) * 2
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p.ravel().astype(F)


def lost(ratios, levels):
    """Mean squared error of ratios through levels of 0..127."""
    index = np.clip(np.rint(ratios * F(TOP)), 0, TOP).astype(int)
    return float(((ratios - levels[index] / TOP) ** 2).mean())


def optimum(ratios, count):
    """Least error of `count` whole levels for the 128 indices: every split of the histogram, by dynamic programming."""
    index = np.clip(np.rint(ratios * F(TOP)), 0, TOP).astype(int)
    mass = np.bincount(index, minlength=CODEBOOK_SIZE).astype(float)
    grid = np.arange(CODEBOOK_SIZE)
    to_level = mass * (grid - grid[:, None]) ** 2  # [level, index]
    running = np.concatenate([np.zeros((CODEBOOK_SIZE, 1)), to_level.cumsum(axis=1)], axis=1)
    best = np.full(CODEBOOK_SIZE + 1, np.inf)
    best[0] = 0
    interval = np.array([[(running[:, j] - running[:, i]).min() for j in range(129)] for i in range(129)])
    interval[np.tri(129, dtype=bool)] = np.inf  # only forwards ...
    np.fill_diagonal(interval, 0)  # ... or a level that stays unused
    for _ in range(count):
        best = (best[:, None] + interval).min(axis=0)
    return best[-1] / TOP**2 / len(ratios)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_uniform_levels_are_the_identity(bits):
    levels = uniform_levels(bits)
    assert levels.dtype == np.uint8
    assert levels.tolist() == list(range(2**bits))


@settings(deadline=None, max_examples=60)
@given(arrays(F, st.integers(0, 50), elements=st.floats(0, 1.5, width=32)), st.integers(1, 7))
def test_any_codebook(ratios, bits):
    levels = codebook_levels(ratios, bits)
    assert levels.dtype == np.uint8
    assert levels.shape == (128,)
    assert (np.diff(levels.astype(int)) >= 0).all()
    assert levels.max() <= 127
    assert len(set(levels.tolist())) <= 2**bits


@pytest.mark.parametrize("bits", [3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_codebooks_beat_uniform_levels_on_softmax(bits, seed):
    ratios = softmax_ratios(seed)
    top = 2**bits - 1
    uniform = float(((ratios - np.rint(ratios * top) / top) ** 2).mean())
    assert lost(ratios, codebook_levels(ratios, bits)) < 0.7 * uniform


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codebooks_are_near_the_optimum(bits):
    ratios = softmax_ratios(2, rows=60)
    index_error = lost(ratios, np.arange(CODEBOOK_SIZE))  # what 128 indices lose, whatever the levels
    found = lost(ratios, codebook_levels(ratios, bits)) - index_error
    least = optimum(ratios, 2**bits)
    assert found >= 0.9 * least  # else the oracle is wrong
    assert found <= 1.25 * least


def test_as_many_levels_as_indices_are_the_identity():
    assert codebook_levels(softmax_ratios(), 7).tolist() == list(range(128))


def test_the_ends_are_kept_exactly():
    ratios = np.repeat(np.array([0, 1], F), [50, 3])
    levels = codebook_levels(ratios, 2)
    assert (levels[0], levels[-1]) == (0, 127)


def test_values_above_one_are_clipped():
    np.testing.assert_array_equal(codebook_levels(F([0, 0.5, 1, 7]), 2), codebook_levels(F([0, 0.5, 1, 1]), 2))


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_log2_levels_are_the_nearest_power_of_two(bits):
    levels = log2_levels(bits)
    powers = [LOG2_UNIT * 2.0**-q for q in range(2**bits - 1)]
    for index, level in enumerate(levels[1:], start=1):
        distance = [abs(np.log2(index / TOP) - np.log2(power / LOG2_UNIT)) for power in powers]
        nearest = powers[int(np.argmin(distance))]
        # Below the last power's half step the code is zero; operands are whole numbers.
        zero = round(-np.log2(index / TOP)) >= 2**bits - 1 or nearest < 1
        assert level == (0 if zero else nearest), index
    assert levels[0] == 0
    assert len(set(levels.tolist())) <= 2**bits
