"""Copies a tensor for every image without asking for the batch size."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable
from qcompiler.ir.dims import Batch, fixed
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer

_FLOAT = int(onnx.TensorProto.FLOAT)


class CopyTokens(Pass):
    """Copies a tensor for every image without asking for the batch size.

    **Before**
      1. `Expand(c, ...)` of a constant c to a shape with the unknown batch size on one axis (learned queries).
      2. The same, or `Tile`, of a tensor that has the other dimensions already.

    **After**: `Add(x, z)`, where z holds one zero for each image: the first element of every image of the first graph
    input, times zero, as [B, 1, ...] with the batch on the axis where the Expand puts it.
      1. x is the constant at its full size, with one row for the batch.
      2. x is that tensor.

    The values are the same for finite images: adding zero changes none.

    **Leaves alone**
      3. Expand and Tile by constants.
      4. Several copies per image, copies of integers, and graphs whose inputs are no float images with a batch axis.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in [node for node in graph.nodes if _copies(node)]:
            self._rewrite(node, info, edit)
        return self.applied > 0

    def _rewrite(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        shape = info.shape(node.outputs[0])
        axes = [axis for axis, dim in enumerate(shape or ()) if isinstance(dim, Batch)]
        images = [
            tensor
            for tensor in edit.graph.inputs
            if info.shapes[tensor.name][:1] == (Batch(1),) and info.dtypes[tensor.name] == _FLOAT
        ]
        if shape is None or len(axes) != 1 or shape[axes[0]] != Batch(1):
            self.refuse(node, "not one copy per image", shape)  # 4
            return
        if not images or info.dtypes.get(node.outputs[0].name) != _FLOAT:
            self.refuse(node, "the images or the copies are not float", node.outputs[0].dtype)  # 4
            return
        single = tuple(1 if axis == axes[0] else fixed(dim) for axis, dim in enumerate(shape))
        x = _single(node, single, info, edit)
        if x is None:
            self.refuse(node, "not copied along the batch alone", info.shape(node.inputs[0]))  # 4
            return
        target = [-1 if axis == axes[0] else 1 for axis in range(len(shape))]
        zeros = _zeros(images[0], len(info.shapes[images[0].name]), target, edit, node.name)
        edit.replace(node.outputs[0], edit.add("Add", [x, zeros], f"{node.name}/copies"))
        node.outputs.clear()
        self.applied += 1


def _copies(node: gs.Node) -> bool:
    """Whether a node copies by a shape that is computed."""
    return node.op in ("Expand", "Tile") and is_variable(node.inputs[1])


def _single(node: gs.Node, shape: tuple[int, ...], info: ShapeInfo, edit: Editor) -> gs.Tensor | None:
    """What is copied, with one row for the batch."""
    source = node.inputs[0]
    have = info.shape(source)
    if have is not None and (1,) * (len(shape) - len(have)) + have == shape:
        return source  # 2
    values = array_of(source) if node.op == "Expand" else None
    if values is None:
        return None
    return edit.constant(f"{node.name}/once", np.array(np.broadcast_to(values, shape)))  # 1


def _zeros(image: gs.Tensor, rank: int, target: list[int], edit: Editor, base: str) -> gs.Variable:
    """One zero for each image, in a shape that spreads along the other axes."""
    ones, axes = [1] * (rank - 1), list(range(1, rank))
    ranges = (("start", [0] * (rank - 1)), ("end", ones), ("axes", axes))
    bounds = [edit.constant(f"{base}/{what}", values) for what, values in ranges]
    first = edit.add("Slice", [image, *bounds], f"{base}/first")
    zero = edit.add("Mul", [first, edit.constant(f"{base}/zero", np.zeros((), np.float32))], f"{base}/none")
    return edit.reshape(zero, target, f"{base}/Reshape")
