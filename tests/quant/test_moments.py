"""The error that moments predict against the rows that they were taken over."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.moments import InputMoments

from .fitting import correlated, moments_of, weights

F = np.float32


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 40), st.integers(0, 999), st.sampled_from([0.01, 0.3, 2.0])
)
def test_error_is_the_error_of_the_rows(channels, outputs, rows, seed, noise):
    draw = np.random.default_rng(seed)
    weight, x = weights(channels, outputs, seed), correlated(rows, channels, seed)
    q = x + noise * draw.standard_normal(x.shape)
    other = (weight + noise * draw.standard_normal(weight.shape)).astype(F)
    expected = np.square(q @ other - x @ weight).sum() / np.square(x @ weight).sum()
    assert moments_of(q, x).output_error(weight, other) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_float32_moments_resolve_8_bits(noise):
    """Three large sums nearly cancel: at the noise of 8-bit codes a hundredth of the error may be lost, no more."""
    draw = np.random.default_rng(0)
    weight, x = weights(96, 32), correlated(3000, 96)
    q = x + noise * draw.standard_normal(x.shape)
    exact = moments_of(q, x)
    single = InputMoments(*(part.astype(F) for part in (exact.gram, exact.cross, exact.power)), exact.rows)
    assert single.output_error(weight, weight) == pytest.approx(exact.output_error(weight, weight), rel=0.01)


def test_nothing_lost_and_nothing_there():
    weight, x = weights(6, 3), correlated(20, 6)
    assert moments_of(x).output_error(weight, weight) == pytest.approx(0, abs=1e-12)
    assert moments_of(x).output_error(weight, weight) >= 0  # rounding never makes it negative
    assert moments_of(x).output_error(weight, weight * 0) == pytest.approx(1)
    assert moments_of(x * 0).output_error(weight, weight) == 0
    assert moments_of(x, x * 0).output_error(weight, weight) == pytest.approx(np.square(x @ weight).sum())


def test_arrays_are_not_changed():
    moments, weight = moments_of(correlated(20, 6)), weights(6, 3)
    copies = [part.copy() for part in (moments.gram, moments.cross, moments.power, weight)]
    moments.output_error(weight, weight)
    for part, copy in zip((moments.gram, moments.cross, moments.power, weight), copies, strict=True):
        np.testing.assert_array_equal(part, copy)
