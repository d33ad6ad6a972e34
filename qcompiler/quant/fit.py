"""Scales and zero points of a group quantizer, chosen by the error they leave on calibration samples.

The bounds decide which group an item joins; the mean range of a group's members is not the range that quantizes them
best, so scale and zero point are searched for: every candidate range is the group's bounds stretched or clipped by a
ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import CHANNELS, F32, OPERAND_LIMIT, ROWS, GroupTable, assign, fake_quantize, item_ranges
from qcompiler.quant.kmeans import fit_bounds

NARROWEST, WIDEST, STEPS_TRIED = 0.25, 1.6, 32
BASE_CANDIDATES = 40
BASES_TRIED = 3
GRID_POINTS = 64
SAMPLES_PER_GROUP = 16384
POINTS_PER_GROUP = 512
RELATIVE_FLOOR = 0.05  # a LayerNorm gamma of 0 gives ranges of 1e-8; scales stay above this share of the median


@dataclass(frozen=True)
class GroupSamples:
    """What calibration knows of one group: its bounds and a sample of its members' values with their importance."""

    lower: float
    upper: float
    values: F32
    weights: F32


@dataclass(frozen=True)
class StepChoice:
    """A scale with its best zero point and the weighted squared error that it leaves."""

    scale: float
    zero_point: int
    error: float


def fit_table(
    x: F32,
    axis: int,
    bits: int,
    groups: int,
    *,
    integer: bool = True,
    symmetric: bool = False,
    importance: F32 | None = None,
    ranges: tuple[F32, F32] | None = None,
) -> GroupTable:
    """Fit one group quantizer to calibration samples.

    Args:
        x: Sampled activations ``[instances, N, C]``.
        axis: ``CHANNELS`` or ``ROWS``.
        bits: Width of the codes.
        groups: Number of groups.
        integer: For channels, make every scale an integer multiple of one base scale, so that the product stays one
            integer product. Rows need no such constraint: their scale is an outer scale of the product.
        symmetric: Fix the zero point at the middle code (operands of products of two activations).
        importance: Weight of each channel's error ``[C]``; for a linear layer the energy of its weight rows.
        ranges: Minimum and maximum of more items than ``x`` holds, to fit the bounds on.

    Returns:
        The table, its groups ordered by the width of their bounds.
    """
    minimum, maximum = item_ranges(x, axis)
    observed = ranges if ranges is not None else (minimum, maximum)
    lower, upper = fit_bounds(observed[0].ravel(), observed[1].ravel(), groups)
    lower, upper = np.minimum(lower, 0), np.maximum(upper, 0)
    order = np.argsort(upper - lower, kind="stable")
    lower, upper = lower[order], upper[order]
    samples = _split(x, assign(minimum, maximum, lower, upper), lower, upper, importance)
    width = upper - lower
    # Nothing but zeros: any scale will do, but its inverse must be finite.
    floor = RELATIVE_FLOOR * float(np.median(width) or width.max()) / (2**bits - 1) or 1.0
    free = [_best_step(group, bits, symmetric, floor) for group in samples]
    if axis == CHANNELS and integer and not symmetric:
        base, multipliers, steps = _integer_multiples(samples, free, bits)
        multiplier, outer = multipliers, np.full(len(steps), base, np.float32)
        scale = outer * multiplier
    else:
        steps = free
        scale = np.array([step.scale for step in steps], np.float32)
        rows_like = axis == ROWS or symmetric
        multiplier = np.ones_like(scale) if rows_like else scale
        outer = scale if rows_like else np.ones_like(scale)
    zero_point = np.array([step.zero_point for step in steps], np.float32)
    return GroupTable(lower, upper, scale, zero_point, multiplier, outer, axis, bits)


def table_error(x: F32, table: GroupTable, importance: F32) -> float:
    """Weighted squared error of ``x [instances, N, C]`` under ``table``; ``importance [C]`` weighs the channels."""
    difference = x - fake_quantize(x, table)
    return float(np.einsum("inc,inc,c->", difference, difference, importance.astype(np.float32)))


def _split(x: F32, index: NDArray[np.intp], lower: F32, upper: F32, importance: F32 | None) -> list[GroupSamples]:
    weight = np.ones(x.shape[-1], np.float32) if importance is None else importance.astype(np.float32)
    member = np.broadcast_to(index.astype(np.uint8), x.shape).ravel()
    values, weights = x.ravel(), np.broadcast_to(weight, x.shape).ravel()
    found = []
    for group in range(len(lower)):
        chosen = np.flatnonzero(member == group)
        stride = -(-len(chosen) // SAMPLES_PER_GROUP) or 1
        # The thinned sample stands for all members: groups with many of them must keep their weight.
        chosen = chosen[::stride]
        thinned = _condense(values[chosen], weights[chosen] * stride)
        if not len(chosen):
            # Ranges come from more items than the sample: the bounds of a group that it misses stand in for members.
            thinned = np.array([lower[group], upper[group]], np.float32), np.ones(2, np.float32)
        found.append(GroupSamples(float(lower[group]), float(upper[group]), *thinned))
    return found


def _condense(values: F32, weights: F32) -> tuple[F32, F32]:
    """Replace runs of neighbouring values by their weighted mean: a quantizer's error hardly changes, its cost does."""
    if len(values) <= POINTS_PER_GROUP:
        return values, weights
    order = np.argsort(values, kind="stable")
    values, weights = values[order], np.maximum(weights[order], np.finfo(np.float32).tiny)
    starts = np.linspace(0, len(values), POINTS_PER_GROUP, endpoint=False).astype(np.intp)
    mass = np.add.reduceat(weights, starts)
    return (np.add.reduceat(values * weights, starts) / mass).astype(np.float32), mass.astype(np.float32)


def _steps(group: GroupSamples, scales: NDArray[np.float64], bits: int, symmetric: bool = False) -> list[StepChoice]:
    """For each scale the best of the zero points worth trying.

    These are: the window of codes centred on the bounds, or anchored at either of them; the middle code if
    ``symmetric``.
    """
    top = 2**bits - 1
    step = scales.astype(np.float32)[:, None]
    if symmetric:
        zero = np.full_like(step, 2 ** (bits - 1))
    else:
        slack = (group.upper - group.lower) - step * np.float32(top)
        starts = np.float32(group.lower) + slack * np.array([0, 0.5, 1], np.float32)
        zero = np.clip(np.rint(-starts / step), 0, top)
    q = np.clip(np.rint(group.values * (np.float32(1) / step))[:, None] + zero[:, :, None], 0, top)
    difference = group.values - step[:, :, None] * (q - zero[:, :, None])
    error = (difference * difference) @ group.weights
    best = error.argmin(axis=1)
    rows = np.arange(len(scales))
    return [
        StepChoice(float(scale), int(z), float(e))
        for scale, z, e in zip(step[:, 0], zero[rows, best], error[rows, best], strict=True)
    ]


def _best_step(group: GroupSamples, bits: int, symmetric: bool, floor: float) -> StepChoice:
    lowest = min(group.lower, float(group.values.min()))
    highest = max(group.upper, float(group.values.max()))
    if symmetric:
        # The middle code leaves one more level below zero than above; the step follows the wider side.
        levels = 2 ** (bits - 1) - 1
        typical, widest = max(group.upper, -group.lower) / levels, max(highest, -lowest) / levels
    else:
        levels = 2**bits - 1
        typical, widest = (group.upper - group.lower) / levels, (highest - lowest) / levels
    # The bounds are the mean range of the members; the widest member may reach much further.
    scales = np.geomspace(max(NARROWEST * typical, floor), max(WIDEST * typical, 1.1 * widest, floor), STEPS_TRIED)
    return min(_steps(group, scales, bits, symmetric), key=lambda choice: choice.error)


def _integer_multiples(
    samples: list[GroupSamples], free: list[StepChoice], bits: int
) -> tuple[float, F32, list[StepChoice]]:
    """The base scale whose integer multiples cost least, with one multiple per group.

    A multiple ``m`` is allowed when every operand ``m * (code - zero_point)`` fits a signed byte.
    """
    scales = [step.scale for step in free]
    grid = np.geomspace(min(scales) / 2, max(scales) * 2, GRID_POINTS)
    errors = np.array([[step.error for step in _steps(group, grid, bits)] for group in samples])
    most = OPERAND_LIMIT // (2 ** (bits - 1))
    multiples = np.arange(1, most + 1)
    bases = np.geomspace(max(scales) / most / 2, max(scales) * 1.5, BASE_CANDIDATES)

    def estimate(base: float) -> float:
        at = np.log(base * multiples)
        return float(sum(np.interp(at, np.log(grid), row).min() for row in errors))

    best: tuple[float, float, F32, list[StepChoice]] | None = None
    for base in sorted(bases, key=estimate)[:BASES_TRIED]:
        base = float(np.float32(base))
        chosen = [_best_multiple(group, base, multiples, bits) for group in samples]
        total = sum(step.error for _, step in chosen)
        if best is None or total < best[0]:
            best = (total, base, np.array([m for m, _ in chosen], np.float32), [step for _, step in chosen])
    assert best is not None
    return best[1], best[2], best[3]


def _best_multiple(group: GroupSamples, base: float, multiples: NDArray[np.intp], bits: int) -> tuple[int, StepChoice]:
    steps = _steps(group, np.float32(base) * multiples.astype(np.float32), bits)
    fitting = [
        (int(multiple), step)
        for multiple, step in zip(multiples, steps, strict=True)
        if multiple * max(step.zero_point, 2**bits - 1 - step.zero_point) <= OPERAND_LIMIT
    ]
    return min(fitting, key=lambda option: option[1].error)
