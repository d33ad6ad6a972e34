"""Relevance through operators that move, copy or drop elements: it goes back to where each element came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.quant.groups import F32
from qcompiler.relevance.lrp_shares import sum_to
from qcompiler.relevance.lrp_visit import Visit


def reshape(visit: Visit) -> Sequence[F32]:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the order that they had."""
    return [visit.relevance.reshape(visit.input(0).shape)]


def transpose(visit: Visit) -> Sequence[F32]:
    """The inverse permutation."""
    axes = visit.attribute("perm") or range(visit.relevance.ndim)[::-1]
    return [visit.relevance.transpose(np.argsort(axes))]


def depth_to_space(visit: Visit) -> Sequence[F32]:
    """Pixels back into the channels that they were cut from."""
    images, channels, rows, columns = visit.input(0).shape
    side = visit.attribute("blocksize")
    x = visit.relevance.reshape(images, channels // side**2, rows, side, columns, side)
    # Channels outermost or innermost among those that make one pixel's block.
    order = (0, 1, 3, 5, 2, 4) if visit.attribute("mode", b"DCR") == b"CRD" else (0, 3, 5, 1, 2, 4)
    return [x.transpose(order).reshape(images, channels, rows, columns)]


def space_to_depth(visit: Visit) -> Sequence[F32]:
    """Channels back into the pixels that they were cut from."""
    images, channels, rows, columns = visit.input(0).shape
    side = visit.attribute("blocksize")
    x = visit.relevance.reshape(images, side, side, channels, rows // side, columns // side)
    return [x.transpose(0, 3, 4, 1, 5, 2).reshape(images, channels, rows, columns)]


def split(visit: Visit) -> Sequence[F32]:
    """The parts joined; a part that nobody read has none."""
    parts = [visit.arrival(index) for index in range(len(visit.arrived))]
    return [np.concatenate(parts, visit.attribute("axis", 0))]


def concat(visit: Visit) -> Sequence[F32]:
    """To every input its part."""
    axis = visit.attribute("axis")
    sizes = [visit.input(index).shape[axis] for index in range(len(visit.inputs))]
    return np.split(visit.relevance, np.cumsum(sizes)[:-1], axis)


def slice_(visit: Visit) -> Sequence[F32]:
    """Zero outside the slice."""
    found = _zeros(visit)
    starts, ends = visit.ints("starts", 1) or [], visit.ints("ends", 2) or []
    axes = visit.ints("axes", 3) or range(len(starts))
    steps = visit.ints("steps", 4) or [1] * len(starts)
    window = [slice(None)] * found.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Python reads the end -1 of a reversed slice as the last element, ONNX clamps what lies below the first one.
        stop = None if step < 0 and end < -found.shape[axis] else end
        window[axis] = slice(start, stop, step)
    found[tuple(window)] = visit.relevance
    return [found]


def gather(visit: Visit) -> Sequence[F32]:
    """The sum over all readings of an element, zero for those not read."""
    found = _zeros(visit)
    axis = visit.attribute("axis", 0) % found.ndim
    index = visit.value(1).astype(np.int64)
    read = visit.relevance.reshape(*found.shape[:axis], index.size, *found.shape[axis + 1 :])
    np.add.at(np.moveaxis(found, axis, 0), index.ravel(), np.moveaxis(read, axis, 0))
    return [found]


def pad(visit: Visit) -> Sequence[F32]:
    """What lies inside; the padding's relevance is lost."""
    if visit.attribute("mode", b"constant") != b"constant":
        raise visit.refusal(f"in mode '{visit.attribute('mode').decode()}'")
    found = _zeros(visit)
    widths = visit.ints("pads", 1) or []
    axes = visit.ints("axes", 3) or range(found.ndim)
    inside, outside = [slice(None)] * found.ndim, [slice(None)] * found.ndim
    for axis, before, after in zip(axes, widths[: len(axes)], widths[len(axes) :], strict=True):
        # A negative width cuts elements off: they receive nothing.
        inside[axis] = slice(max(-before, 0), found.shape[axis] - max(-after, 0))
        outside[axis] = slice(max(before, 0), visit.relevance.shape[axis] - max(after, 0))
    found[tuple(inside)] = visit.relevance[tuple(outside)]
    return [found]


def expand(visit: Visit) -> Sequence[F32]:
    """The sum over the copies of an element."""
    return [sum_to(visit.relevance, visit.input(0).shape)]


def _zeros(visit: Visit) -> F32:
    return np.zeros(visit.input(0).shape, np.float32)
