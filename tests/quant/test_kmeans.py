"""Group bounds by k-means: against brute force over partitions, and what must hold for any data."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompiler.quant.kmeans import MOST_ITEMS, fit_bounds

F = np.float32
POINTS = st.integers(1, 40).flatmap(lambda n: arrays(F, (n, 2), elements=st.floats(-8, 8, width=16)))


def inertia(points, lower, upper):
    """Summed squared distance of every point to its nearest bounds, in float64."""
    centres = np.stack([lower, upper], axis=1).astype(np.float64)
    return ((points[:, None].astype(np.float64) - centres) ** 2).sum(-1).min(1).sum()


def best_partition(points, groups):
    """The least inertia over all ways to label the points."""
    least = np.inf
    for labels in itertools.product(range(groups), repeat=len(points) - 1):
        member = np.array([0, *labels])
        total = sum(((points[member == g] - points[member == g].mean(0)) ** 2).sum() for g in set(member.tolist()))
        least = min(least, total)
    return least


def clustered(groups, each, seed=0, spread=0.01):
    draw = np.random.default_rng(seed)
    width = np.arange(1, groups + 1)
    centre = np.stack([-width, 2.0 * width], axis=1)
    return np.concatenate([c + draw.standard_normal((each, 2)) * spread for c in centre]).astype(F), centre


def test_one_group_is_the_mean_range():
    points = np.random.default_rng(0).standard_normal((50, 2)).astype(F)
    lower, upper = fit_bounds(points[:, 0], points[:, 1], 1)
    np.testing.assert_allclose([lower[0], upper[0]], points.astype(np.float64).mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_separated_clusters_reach_the_optimum(seed):
    points, _ = clustered(3, 2, seed)
    lower, upper = fit_bounds(points[:, 0], points[:, 1], 3)
    assert inertia(points, lower, upper) == pytest.approx(best_partition(points.astype(np.float64), 3), rel=1e-3)


def test_bounds_are_the_means_of_their_members():
    points, centre = clustered(4, 30)
    lower, upper = fit_bounds(points[:, 0], points[:, 1], 4)
    means = points.reshape(4, 30, 2).astype(np.float64).mean(1)
    np.testing.assert_allclose(np.stack([lower, upper], 1), means, rtol=0, atol=1e-5)
    np.testing.assert_allclose(means, centre, rtol=0, atol=0.02)  # the data is what its name says


@settings(deadline=None)
@given(POINTS, st.integers(1, 8))
def test_any_data(points, groups):
    lower, upper = fit_bounds(points[:, 0], points[:, 1], groups)
    distinct = np.unique(points, axis=0)
    assert lower.dtype == upper.dtype == F
    assert lower.shape == upper.shape
    assert len(lower) <= groups
    assert np.isfinite(lower).all() and np.isfinite(upper).all()
    assert (np.diff(upper.astype(np.float64) - lower) >= -1e-5).all()
    one_lower, one_upper = fit_bounds(points[:, 0], points[:, 1], 1)
    slack = 1e-5 * (1 + np.abs(points).max() ** 2) * len(points)
    assert inertia(points, lower, upper) <= inertia(points, one_lower, one_upper) + slack
    if len(distinct) <= groups:
        found = np.stack([lower, upper], 1)
        np.testing.assert_array_equal(found[np.lexsort(found.T[::-1])], distinct)


def test_equal_input_gives_equal_bounds():
    points = np.random.default_rng(4).standard_normal((500, 2)).astype(F)
    first, second = (fit_bounds(points[:, 0], points[:, 1], 8) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_input_is_not_changed():
    points = np.random.default_rng(5).standard_normal((30, 2)).astype(F)
    minimum, maximum = points[:, 0].copy(), points[:, 1].copy()
    fit_bounds(minimum, maximum, 3)
    np.testing.assert_array_equal(np.stack([minimum, maximum], 1), points)


def test_many_items_are_thinned_over_the_whole_list():
    """The second half of the items is different from the first: both get groups."""
    half = MOST_ITEMS * 3
    minimum = np.r_[np.full(half, -1), np.full(half, -9)].astype(F)
    lower, upper = fit_bounds(minimum, -minimum, 2)
    assert lower.tolist() == [-1, -9]
    assert upper.tolist() == [1, 9]


def test_any_shape_of_items():
    points = np.random.default_rng(6).standard_normal((24, 2)).astype(F)
    flat = fit_bounds(points[:, 0], points[:, 1], 3)
    boxed = fit_bounds(points[:, 0].reshape(2, 1, 12), points[:, 1].reshape(2, 1, 12), 3)
    np.testing.assert_array_equal(flat, boxed)


def test_more_groups_fit_better():
    points, _ = clustered(6, 20, spread=0.05)
    found = [inertia(points, *fit_bounds(points[:, 0], points[:, 1], groups)) for groups in (1, 2, 6)]
    assert found[0] > 2 * found[1] > 4 * found[2]
