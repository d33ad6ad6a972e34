"""Gives every linear layer an input of at most three axes."""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import producer, single_consumer
from qcompiler.ir.dims import Batch, UnresolvableError, collapse, fixed, reshape_target
from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch, linear_at
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer


class FlattenTokens(Pass):
    """Gives every linear layer an input of at most three axes, images first, so that the tokens of one are one axis.

    **Before**
      1. A linear layer of x [B, h, w, C] (or with more axes between batch and channels).
      2. The same where x is the result of a LayerNormalization over the last axis that has no other reader.
      4. A linear layer of x [N, B, C], tokens first.

    **After**
      1. `Reshape` of x to [B, h w, C], the linear layer, `Reshape` of its result to [B, h, w, D].
      2. The first Reshape stands before the LayerNormalization.
      4. `Transpose` of x to [B, N, C], the linear layer, `Transpose` of its result.

    **Leaves alone**
      3. Other inputs of two or three axes, and of unknown shape.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in list(graph.nodes):
            layer = linear_at(node, graph)
            if layer is not None:
                self._flatten(layer, info, edit)
        return self.applied > 0

    def _flatten(self, layer: LinearMatch, info: ShapeInfo, edit: Editor) -> None:
        shape, result_shape = info.shape(layer.source), info.shape(layer.output)
        if shape is not None and len(shape) == 3 and isinstance(shape[1], Batch):
            self._turn(layer, edit)  # 4
            return
        if shape is None or result_shape is None or len(shape) <= 3:  # 3
            return
        try:
            flat = (shape[0], collapse(shape[1:-1]), shape[-1])
        except UnresolvableError:
            self.refuse(layer.matmul, "the batch stands between two axes of tokens", shape)
            return
        back = reshape_target((*flat[:-1], result_shape[-1]), result_shape)
        if isinstance(flat[1], Batch) or back is None:
            self.refuse(layer.matmul, "the batch is not the first axis", shape)
            return
        scope = layer.matmul.name.rsplit("/", 1)[0]
        target = [0 if isinstance(flat[0], Batch) else flat[0], flat[1], fixed(shape[-1])]
        norm = producer(layer.source)
        reader = layer.matmul
        if norm is not None and _is_movable(norm, reader, edit.graph):  # 2
            reader = norm
        reader.inputs[0] = edit.reshape(reader.inputs[0], target, f"{scope}/Reshape")  # 1
        _put_behind(layer, "Reshape", {}, [edit.constant(f"{scope}/Reshape/shape", back)], edit)
        self.applied += 1

    def _turn(self, layer: LinearMatch, edit: Editor) -> None:
        scope = layer.matmul.name.rsplit("/", 1)[0]
        layer.matmul.inputs[0] = edit.transpose(layer.source, [1, 0, 2], f"{scope}/Transpose")
        _put_behind(layer, "Transpose", {"perm": [1, 0, 2]}, [], edit)
        self.applied += 1


def _put_behind(layer: LinearMatch, op: str, attrs: dict[str, Any], inputs: list[gs.Tensor], edit: Editor) -> None:
    """Puts a node between a linear layer and its readers; a graph output keeps its name."""
    last = layer.add or layer.matmul
    inner = gs.Variable(edit.free_name(f"{layer.output.name}/flat"), dtype=layer.output.dtype)
    last.outputs[0] = inner
    name = edit.free_name(f"{layer.matmul.name.rsplit('/', 1)[0]}/{op}")
    edit.graph.nodes.append(gs.Node(op, name, attrs=attrs, inputs=[inner, *inputs], outputs=[layer.output]))


def _is_movable(norm: gs.Node, reader: gs.Node, graph: gs.Graph) -> bool:
    return (
        norm.op == "LayerNormalization"
        and norm.attrs.get("axis", -1) == -1
        and single_consumer(norm.outputs[0], graph) is reader
        and not any(tensor.outputs for tensor in norm.outputs[1:])
    )
