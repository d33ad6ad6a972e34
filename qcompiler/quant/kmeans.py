"""Calibration of group bounds: alternating assignment and update in the (minimum, maximum) plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32, assign

ITERATIONS = 20
RESTARTS = 2
MOST_ITEMS = 4096


def fit_bounds(minimum: F32, maximum: F32, groups: int, seed: int = 0) -> tuple[F32, F32]:
    """Bounds of ``groups`` groups for the observed item ranges, by k-means in the (min, max) plane.

    Each round assigns every item to its nearest group and moves the group's bounds to the mean range of its members,
    the alternation of IGQ-ViT. Several seeded k-means++ starts are tried and the tightest result is kept, so equal
    input gives equal bounds.

    Args:
        minimum: Minimum of each observed item ``[items]``.
        maximum: Maximum of each observed item ``[items]``.
        groups: Wanted number of groups; fewer come back when there are fewer distinct ranges.
        seed: Seed of the starts.

    Returns:
        ``(lower, upper)``, float32 ``[groups]`` each, ordered by width.
    """
    points = np.stack([minimum.ravel(), maximum.ravel()], axis=1).astype(np.float32)
    points = points[:: -(-len(points) // MOST_ITEMS) or 1]
    distinct = np.unique(points, axis=0)
    if len(distinct) <= groups:
        return _ordered(distinct)
    generator = np.random.default_rng(seed)
    best, best_inertia = distinct[:groups], np.inf
    for _ in range(RESTARTS if groups > 1 else 1):
        centres, inertia = _lloyd(points, _spread_start(points, groups, generator))
        if inertia < best_inertia:
            best, best_inertia = centres, inertia
    return _ordered(best)


def _ordered(centres: F32) -> tuple[F32, F32]:
    centres = centres[np.argsort(centres[:, 1] - centres[:, 0], kind="stable")]
    return np.ascontiguousarray(centres[:, 0]), np.ascontiguousarray(centres[:, 1])


def _spread_start(points: F32, groups: int, generator: np.random.Generator) -> F32:
    """k-means++: each next centre is drawn with probability proportional to its squared distance from those chosen."""
    chosen = [points[generator.integers(len(points))]]
    distance = np.full(len(points), np.inf)
    for _ in range(groups - 1):
        distance = np.minimum(distance, ((points - chosen[-1]) ** 2).sum(axis=1))
        total = distance.sum()
        if total == 0:
            break
        chosen.append(points[generator.choice(len(points), p=distance / total)])
    return np.stack(chosen)


def _lloyd(points: F32, centres: F32) -> tuple[F32, float]:
    previous: NDArray[np.intp] | None = None
    for _ in range(ITERATIONS):
        member = assign(points[:, 0], points[:, 1], centres[:, 0], centres[:, 1])
        if previous is not None and np.array_equal(member, previous):
            break
        counts = np.bincount(member, minlength=len(centres))
        for side in (0, 1):
            sums = np.bincount(member, weights=points[:, side], minlength=len(centres))
            # A group that lost all members keeps its bounds: it may win some back in the next round.
            centres[:, side] = np.where(counts > 0, sums / np.maximum(counts, 1), centres[:, side])
        previous = member
    inertia = float(((points - centres[assign(points[:, 0], points[:, 1], centres[:, 0], centres[:, 1])]) ** 2).sum())
    return centres, inertia
