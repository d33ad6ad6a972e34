"""Lets linear layers read tokens where an exporter made a matrix of them."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_variable, producer, single_consumer
from qcompiler.ir.dims import Shape, product, reshape_target
from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch, linear_at
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer


class RestoreTokens(Pass):
    """Lets linear layers read tokens where an exporter made a matrix of them, as Gemm needs one.

    **Before**: `Reshape` of x to a matrix [B N, C], a linear layer, `Reshape` of its result to [B, N, ...], where
      1. x is [B, N, C];
      2. x is [B, N, ...], such as heads that were not joined before.

    **After**: the linear layer of [B, N, C], and `Reshape` of its result [B, N, D].
      1. That is x itself. What else reads the first Reshape still does.
      2. `Reshape` of x to [B, N, C].

    **Leaves alone**
      3. Results that are read as a matrix too.
      4. Other axes in front of the channels before than behind.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in list(graph.nodes):
            layer = linear_at(node, graph)
            if layer is not None:
                self._restore(layer, info, edit)
        return self.applied > 0

    def _restore(self, layer: LinearMatch, info: ShapeInfo, edit: Editor) -> None:
        before, after = producer(layer.source), single_consumer(layer.output, edit.graph)
        if before is None or before.op != "Reshape" or not is_variable(before.inputs[0]):
            return
        if after is None or after.op != "Reshape" or after.inputs[0] is not layer.output:  # 3
            return
        shapes = [info.shape(tensor) for tensor in (before.inputs[0], layer.source, after.outputs[0])]
        if any(shape is None for shape in shapes):
            return
        given, matrix, wanted = (shape for shape in shapes if shape is not None)
        tokens = _token_axes(given, matrix, wanted)
        if tokens is None:  # 4
            return
        channels, columns = matrix[1], int(layer.weight.shape[1])
        behind = reshape_target((*tokens, columns), wanted)
        joined = reshape_target(given, (*tokens, channels))
        if behind is None or joined is None:
            return
        x = before.inputs[0]
        if given != (*tokens, channels):  # 2
            x = edit.reshape(x, joined, f"{before.name}/tokens")
        layer.matmul.inputs[0] = x
        after.inputs[1] = edit.constant(f"{after.name}/shape", behind)
        after.attrs.pop("allowzero", None)
        self.applied += 1


def _token_axes(given: Shape, matrix: Shape, wanted: Shape) -> Shape | None:
    """The axes that both shapes begin with and that the rows of the matrix are made of, at least two."""
    if len(matrix) != 2:
        return None
    for count in range(2, min(len(given), len(wanted))):
        if given[:count] != wanted[:count]:
            return None
        coefficient, power = product(given[:count])
        if (coefficient, power) == product(matrix[:1]):
            return given[:count]
    return None
