"""Putting a tensor of tokens, channels last, in the place of one with another layout."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import producer
from qcompiler.ir.dims import Batch, Shape, at_batch, reshape_target
from qcompiler.ir.editing import Editor
from qcompiler.ir.layout import follow
from qcompiler.ir.shapes import ShapeInfo


def replace_by_tokens(
    old: gs.Variable,
    new: gs.Variable,
    shape: Shape,
    order: np.ndarray,
    info: ShapeInfo,
    edit: Editor,
    name: str,
) -> None:
    """Replaces `old`, or the last tensor after it that holds the same elements in the order of `new`, by `new`.

    Layout operators that follow `old` are merged away when they only bring its elements into the order of `new`.
    Otherwise `new` is brought into the layout of `old`.

    Args:
        old: the tensor to replace.
        new: tokens, channels last.
        shape: shape of `new`.
        order: for each element of `old`, its flat position in `new` (a batch of two where the batch is unknown); an
            array with one axis per factor: a permutation of the axes of some factoring of the shape of `new`, whose
            elements are those of `old` in row-major order.
        info: shapes of the graph before the edit.
        edit: the editor.
        name: name of the nodes added.
    """
    identity = np.arange(order.size)
    best = None
    own = info.shape(old)
    if own is None:
        raise ValueError(f"the shape of '{old.name}' is unknown")
    for tensor, indices in follow(old, order.reshape(at_batch(own, 2)), edit.graph):
        if indices.size != order.size:
            break
        if np.array_equal(indices.reshape(-1), identity):
            best = tensor
    target = best if best is not None else old
    after = info.shape(target)
    if after is None:
        raise ValueError(f"the shape of '{target.name}' is unknown")
    result = new
    if best is None:
        result = _permuted(new, shape, order, edit, name)
        if order.shape != at_batch(own, 2):
            result = edit.reshape(result, [-1 if isinstance(dim, Batch) else dim for dim in own], f"{name}/Reshape")
    elif after != shape:
        dims = reshape_target(shape, after)
        if dims is None:
            raise ValueError(f"no constant Reshape from {shape} to {after}")
        result = edit.reshape(new, dims, f"{name}/Reshape")
    node = producer(target)
    edit.replace(target, result)
    if node is not None:
        node.outputs.clear()


def _permuted(new: gs.Variable, shape: Shape, order: np.ndarray, edit: Editor, name: str) -> gs.Variable:
    """Brings tokens into an order that a Transpose of some factoring of their shape gives."""
    axes = _factors(order)
    dims = [order.shape[axis] for axis in axes]
    back = [axes.index(axis) for axis in range(order.ndim)]
    if not np.array_equal(np.arange(order.size).reshape(dims).transpose(back), order):
        raise ValueError("the order of the elements is no permutation of axes")
    batch_axis = axes.index(0)
    if at_batch(shape, 1) != shape:
        dims[batch_axis] = -1
    result = edit.reshape(new, dims, f"{name}/Reshape")
    return edit.transpose(result, back, f"{name}/Transpose")


def _factors(order: np.ndarray) -> list[int]:
    """The axes of `order` from the slowest to the fastest in the flat positions."""
    steps = []
    for axis, size in enumerate(order.shape):
        index = [0] * order.ndim
        index[axis] = min(1, size - 1)
        steps.append(int(order[tuple(index)] - order.flat[0]) if size > 1 else 0)
    # An axis of one element has no step of its own: it may stand anywhere, so it goes where it is.
    return sorted(range(order.ndim), key=lambda axis: (-steps[axis] if order.shape[axis] > 1 else -order.size, axis))
