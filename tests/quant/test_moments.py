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
    rows = q @ other - x @ weight
    expected = np.square(rows).sum() - np.square(x @ weight).sum()
    scale = np.square(rows).sum() + np.square(x @ weight).sum()
    assert moments_of(q, x).excess_error(weight, other) == pytest.approx(expected, rel=1e-6, abs=1e-12 * scale)


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_float32_moments_resolve_8_bits(noise):
    """Large sums nearly cancel: of what 8-bit codes make of the output a hundredth may be lost, no more."""
    draw = np.random.default_rng(0)
    weight, x = weights(96, 32), correlated(3000, 96)
    other = weight + noise / 100 * draw.standard_normal(weight.shape)
    exact = moments_of(x + noise * draw.standard_normal(x.shape), x)
    single = InputMoments(*(part.astype(F) for part in (exact.gram, exact.cross)), exact.rows)
    found, wanted = (m.excess_error(weight, other) - m.excess_error(weight, weight) for m in (single, exact))
    assert found == pytest.approx(wanted, rel=0.01)


def test_nothing_lost_and_nothing_there():
    weight, x = weights(6, 3), correlated(20, 6)
    signal = np.square(x @ weight).sum()
    assert moments_of(x).excess_error(weight, weight) == pytest.approx(-signal)
    assert moments_of(x).excess_error(weight, weight * 0) == 0
    assert moments_of(x * 0).excess_error(weight, weight) == 0
    assert moments_of(x, x * 0).excess_error(weight, weight) == pytest.approx(signal)


def test_arrays_are_not_changed():
    moments, weight = moments_of(correlated(20, 6)), weights(6, 3)
    copies = [part.copy() for part in (moments.gram, moments.cross, weight)]
    moments.excess_error(weight, weight)
    for part, copy in zip((moments.gram, moments.cross, weight), copies, strict=True):
        np.testing.assert_array_equal(part, copy)
