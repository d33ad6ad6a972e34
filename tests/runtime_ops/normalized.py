"""GroupLinear with its attribute `normalize` in NumPy, and rows with exact norms."""

from __future__ import annotations

import numpy as np

from .reference import F32, MULTIPLIER, OUTER, SCALE, quantize, weight_operands

# Four squares that add up to 4 * 5^2: blocks of four channels have the root mean square 5, whatever the signs.
_BLOCKS = np.array([(5, 5, 5, 5), (1, 1, 7, 7), (1, 3, 3, 9), (2, 4, 4, 8), (1, 5, 5, 7), (0, 0, 0, 10)], F32)
AMBIGUOUS = 1e-4  # relative distance between the two nearest groups below which an item may join either


def exact_rows(rng: np.random.Generator, shape: tuple[int, ...], zero_rows: int = 0) -> np.ndarray:
    """Float32 rows `[..., N, C]` of integers whose root mean square is `5 * s`, `s` an integer from 1 to 16 per row.

    Sums of their squares are exact in float32, so every correct kernel finds the same norm, and results can be compared
    bit by bit. Blocks of four channels have ranges of their own, so that channels go to different groups.

    Args:
        rng: Source of signs, factors and orders.
        shape: Shape of the result; at least two axes.
        zero_rows: Rows, from the first one on, that are all zeros: these are divided by 1.
    """
    rows, channels = int(np.prod(shape[:-1])), shape[-1]
    x = np.full((rows, channels), 5, F32)
    for begin in range(0, channels - 3, 4):
        block = np.broadcast_to(_BLOCKS[begin // 4 % len(_BLOCKS)], (rows, 4))
        x[:, begin : begin + 4] = rng.permuted(block, axis=1)
    x *= rng.choice(np.array([-1, 1], F32), x.shape) * rng.integers(1, 17, (rows, 1)).astype(F32)
    x[:zero_rows] = 0
    return x.reshape(shape)


def divide_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows times the rounded inverse of their root mean square, and that root `[..., N, 1]`, which is 1 for zeros."""
    root = np.sqrt(np.mean(np.square(x.astype(np.float64)), axis=-1, keepdims=True)).astype(F32)
    norm = np.where(root > 0, root, F32(1))
    return (x * (F32(1) / norm)).astype(F32), norm


def linear(
    x: np.ndarray,
    weight: np.ndarray,
    w_scale: np.ndarray,
    groups: np.ndarray,
    bias: np.ndarray,
    *,
    bits: int,
    axis: int,
    segments: int = 0,
    normalize: int = 0,
    w_blocks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The output, bit by bit where the norms are exact, and how far it may move where codes lie next to a boundary."""
    norm = np.ones((*x.shape[:-1], 1), F32)
    if normalize:
        x, norm = divide_rows(x)
    w = weight_operands(weight, w_blocks)
    multiples = axis == -1 and not segments
    operands = quantize(x, groups, bits, axis, multiples=multiples, signed_byte=multiples)
    if segments:
        total = np.zeros((*x.shape[:-1], w.shape[1]), F32)
        for index in range(len(groups)):
            accumulator = (np.where(operands.group == index, operands.values, 0) @ w).astype(F32)
            total = (total + (accumulator * groups[index, SCALE]).astype(F32)).astype(F32)
        total = (total * norm).astype(F32)
        step = groups[:, SCALE].max()
    else:
        outer = groups[operands.group, OUTER] if axis == -2 else groups[0, OUTER]
        total = ((operands.values @ w).astype(F32) * (outer * norm).astype(F32)).astype(F32)
        step = groups[:, OUTER].max() * (groups[:, MULTIPLIER].max() if axis == -1 else 1)
    y = ((total * w_scale).astype(F32) + bias).astype(F32)
    slack = operands.near.astype(np.float64) @ np.abs(w) * (step * norm * np.abs(w_scale))
    return y, slack


def is_ambiguous(x: np.ndarray, groups: np.ndarray, axis: int) -> bool:
    """Whether a rounding error in `x` could send an item to another group: such a case says nothing about a kernel."""
    reduced = -2 if axis == -1 else -1
    above = x.max(axis=reduced).astype(np.float64)[..., None] - groups[:, 1]
    below = x.min(axis=reduced).astype(np.float64)[..., None] - groups[:, 0]
    distance = np.sort(above * above + below * below, axis=-1)
    return len(groups) > 1 and bool(np.any(distance[..., 1] - distance[..., 0] <= AMBIGUOUS * (1 + distance[..., 1])))
