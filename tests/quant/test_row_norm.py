"""Root mean square of rows against float64."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qcompiler.quant.row_norm import normalize_rows, row_norm

F = np.float32
X = arrays(F, array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.floats(-100, 100, width=16))


@settings(deadline=None)
@given(X)
def test_row_norm(x):
    found = row_norm(x)
    expected = np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True))
    assert found.dtype == F
    assert found.shape == (*x.shape[:-1], 1)
    # Squares below the smallest float32 vanish; the grid of float16 keeps the others far above it.
    np.testing.assert_allclose(found, np.where(expected > 0, expected, 1), rtol=1e-6)


@settings(deadline=None)
@given(X)
def test_normalized_rows_have_unit_size(x):
    found = normalize_rows(x)
    assert found.dtype == F
    assert found.shape == x.shape
    size = np.sqrt((found.astype(np.float64) ** 2).mean(-1))
    np.testing.assert_allclose(size, (x != 0).any(-1).astype(float), rtol=1e-5)


@settings(deadline=None)
@given(X, st.integers(-8, 8))
def test_the_size_of_a_row_does_not_matter(x, power):
    np.testing.assert_array_equal(normalize_rows(x * F(2.0**power)), normalize_rows(x))


def test_rows_are_independent():
    x = np.random.default_rng(0).standard_normal((3, 4, 8)).astype(F)
    massive = x.copy()
    massive[0, 1] *= 1000
    changed = (normalize_rows(massive) != normalize_rows(x)).any(-1)
    assert not np.delete(changed.ravel(), 1).any()


def test_multiplies_by_the_rounded_inverse():
    x = np.random.default_rng(1).standard_normal((64, 32)).astype(F)
    norm = row_norm(x)
    np.testing.assert_array_equal(normalize_rows(x), x * (F(1) / norm))
    assert (normalize_rows(x) != x / norm).any()  # the two orders are not the same thing


def test_zeros_stay_zeros():
    x = np.zeros((2, 3), F)
    assert row_norm(x).ravel().tolist() == [1, 1]
    assert not normalize_rows(x).any()
