"""Folds a factor per channel behind a linear layer into its weights."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, single_consumer
from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch, linear_at
from qcompiler.ir.passes import Pass


class FoldLayerScale(Pass):
    """Folds a factor per channel behind a linear layer into its weights.

    **Before**
      1. `Mul(linear(x), c)` or `Mul(c, linear(x))` with a constant c of one element per output (LayerScale), where the
         result of the linear layer has no other reader.

    **After**: the linear layer with columns of W and elements of b multiplied by c.

    **Leaves alone**
      2. Scalars and other shapes of c.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in list(graph.nodes):
            layer = linear_at(node, graph)
            if layer is not None:
                self._fold(layer, edit)
        return self.applied > 0

    def _fold(self, layer: LinearMatch, edit: Editor) -> None:
        node = single_consumer(layer.output, edit.graph)
        if node is None or node.op != "Mul":
            return
        factor = array_of(next(tensor for tensor in node.inputs if tensor is not layer.output))
        outputs = layer.weight.shape[1]
        if factor is None:
            return
        if factor.size != outputs or factor.shape[-1] != outputs:
            self.refuse(node, "the factor is not one per channel", factor.shape)  # 2
            return
        factor = factor.reshape(-1)
        weight = np.asarray(layer.weight.values) * factor
        layer.matmul.inputs[1] = edit.constant(f"{layer.weight.name}/scaled", weight)
        if layer.add is not None and layer.bias is not None:
            layer.add.inputs[1] = edit.constant(f"{layer.bias.name}/scaled", layer.bias_values() * factor)
        edit.replace(node.outputs[0], layer.output)
        node.outputs.clear()
        self.applied += 1
