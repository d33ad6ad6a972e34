"""Writes the convolution that cuts the image into patches as a linear layer."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of
from qcompiler.ir.dims import Batch, Shape, at_batch, fixed
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer
from qcompiler.ir.tokens import replace_by_tokens


class PatchEmbedding(Pass):
    """Writes the convolution that cuts the image into patches as a linear layer.

    **Before**
      1. `Conv(x [B, C, H, W], W [D, C, kh, kw][, b])` whose stride is its kernel, without padding, dilation or groups,
         on an image that the kernel divides.

    **After**: `Reshape`, `Transpose` and `Reshape` to [B, tokens, C kh kw], `MatMul`, `Add`; the layout operators that
    followed the convolution (flatten, transpose to channels last) are merged into at most one Reshape.

    **Leaves alone**
      2. Every other convolution.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "Conv"]:
            reason = _obstacle(node, info)
            if reason:
                self.refuse(node, *reason)  # 2
                continue
            self._rewrite(node, info, edit)
        return self.applied > 0

    def _rewrite(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        weight = np.asarray(node.inputs[1].values)
        outputs, channels, kh, kw = weight.shape
        shape = info.shape(node.inputs[0])
        assert shape is not None  # _obstacle saw to it
        batch = _batch_size(shape)
        rows, columns = fixed(shape[2]) // kh, fixed(shape[3]) // kw
        scope = node.name.rsplit("/", 1)[0]
        x = edit.reshape(node.inputs[0], [batch, channels, rows, kh, columns, kw], f"{scope}/Reshape")
        x = edit.transpose(x, [0, 2, 4, 1, 3, 5], f"{scope}/Transpose")
        x = edit.reshape(x, [batch, rows * columns, channels * kh * kw], f"{scope}/Reshape")
        matrix = np.ascontiguousarray(weight.reshape(outputs, -1).T)
        x = edit.add("MatMul", [x, edit.constant(f"{node.inputs[1].name}/matrix", matrix)], f"{scope}/MatMul")
        if len(node.inputs) > 2:
            x = edit.add("Add", [x, node.inputs[2]], f"{scope}/Add")
        tokens: Shape = (shape[0], rows * columns, outputs)
        # The convolution's result is [B, D, rows, columns]: the tokens with the channels moved forward.
        order = np.arange(at_batch(shape, 2)[0] * rows * columns * outputs)
        order = order.reshape(-1, rows, columns, outputs).transpose(0, 3, 1, 2)
        replace_by_tokens(node.outputs[0], x, tokens, order, info, edit, scope)
        self.applied += 1


def _obstacle(node: gs.Node, info: ShapeInfo) -> tuple[str, object] | None:
    """Why a convolution is not a patch embedding; None if it is one."""
    weight = array_of(node.inputs[1])
    if weight is None or weight.ndim != 4 or (len(node.inputs) > 2 and array_of(node.inputs[2]) is None):
        return "not a 2-d convolution with constant weights", ""
    kernel = list(weight.shape[2:])
    if list(node.attrs.get("strides", [1, 1])) != kernel:
        return "the stride is not the kernel", f"stride {node.attrs.get('strides', [1, 1])}, kernel {kernel}"
    if node.attrs.get("group", 1) != 1 or any(dilation != 1 for dilation in node.attrs.get("dilations", [1])):
        return "grouped or dilated", node.attrs.get("group", 1)
    if any(node.attrs.get("pads", [0])) or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "padded", node.attrs.get("pads", node.attrs.get("auto_pad"))
    shape = info.shape(node.inputs[0])
    if shape is None or isinstance(shape[2], Batch) or isinstance(shape[3], Batch):
        return "the image size is unknown", shape
    if shape[2] % kernel[0] or shape[3] % kernel[1]:
        return "the kernel does not divide the image", f"{shape[2:]} by {kernel}"
    return None


def _batch_size(shape: Shape) -> int:
    """The first number of a Reshape's target: 0 copies an unknown batch."""
    return 0 if isinstance(shape[0], Batch) else int(shape[0])
