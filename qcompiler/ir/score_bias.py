"""The constants added to attention scores, as one tensor [windows, heads or 1, N, N]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qcompiler.ir.dims import Batch, Dim, Shape, fixed


def combine(
    added: Sequence[tuple[np.ndarray, Shape]], instances: Dim, heads: int, tokens: int
) -> np.ndarray | str | None:
    """Sums constants that are added to scores, possibly in unfolded shapes such as [B, windows, H, N, N].

    Args:
        added: constants, each with the shape of the scores where it is added.
        instances: number of instances (images or windows): the product of the axes before the heads.
        heads: number of heads.
        tokens: N.

    Returns:
        float32 [windows, heads or 1, N, N] with the smallest number of windows, where instance b uses row
        b modulo windows; None without constants; a reason when a constant cannot be written so.
    """
    total: np.ndarray | None = None
    for values, shape in added:
        term = _rows(values.astype(np.float32), shape, heads, tokens)
        if isinstance(term, str):
            return term
        if total is None:
            total = term
        else:
            rows = math.lcm(len(total), len(term))
            total = np.tile(total, (rows // len(total), 1, 1, 1)) + np.tile(term, (rows // len(term), 1, 1, 1))
    if total is None:
        return None
    total = _shortest_period(total)
    count = instances.multiple if isinstance(instances, Batch) else instances
    if count % len(total):
        return f"a bias of {len(total)} windows for {count} instances"
    return total


def _rows(values: np.ndarray, shape: Shape, heads: int, tokens: int) -> np.ndarray | str:
    """One constant as [windows, heads or 1, N, N]."""
    if values.ndim > len(shape) or tuple(shape[-2:]) != (tokens, tokens):
        return f"a constant of shape {values.shape} added to scores of shape {shape}"
    values = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    leading = values.shape[:-2]
    first = next((axis for axis in range(len(leading)) if leading[axis] != 1), len(leading))
    inner = shape[first:-2]
    if any(isinstance(dim, Batch) for dim in inner):
        return f"a constant of shape {values.shape} that varies along the batch of scores of shape {shape}"
    sizes: tuple[int, ...] = tuple(fixed(dim) for dim in inner)
    square = np.broadcast_to(values.reshape(values.shape[first:]), (*sizes, tokens, tokens))
    count = math.prod(sizes)
    if first == len(leading):
        return np.array(square).reshape(1, 1, tokens, tokens)
    if count % heads:
        return f"a constant of shape {values.shape} for {heads} heads"
    return np.array(square).reshape(count // heads, heads, tokens, tokens)


def _shortest_period(values: np.ndarray) -> np.ndarray:
    count = len(values)
    for period in range(1, count):
        if count % period == 0 and all(
            np.array_equal(values[start : start + period], values[:period]) for start in range(period, count, period)
        ):
            return values[:period]
    return values
