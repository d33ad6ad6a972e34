"""Merges the linear layers of queries, keys and values into one."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch, linear_of
from qcompiler.ir.passes import Pass


class MergeQkv(Pass):
    """Merges the linear layers of queries, keys and values into one.

    **Before**
      1. `Concat(linear_1(x), linear_2(x), ...; axis=-1)` where all linear layers read the same x.

    **After**: one linear layer whose matrix and bias are joined; a missing bias counts as zeros, and no bias is added
    when none has one.

    **Leaves alone**
      2. Linear layers of different inputs, and joins with anything else.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "Concat"]:
            layers = [linear_of(tensor, graph) for tensor in node.inputs]
            found = [layer for layer in layers if layer is not None]
            if not found:
                continue
            if len(found) < len(layers) or any(layer.source is not found[0].source for layer in found):
                self.refuse(node, "not all parts are linear layers of the same input")  # 2
                continue
            if node.attrs["axis"] not in (-1, len(node.outputs[0].shape or ()) - 1):
                self.refuse(node, "joined along another axis than the channels", node.attrs["axis"])  # 2
                continue
            self._merge(node, found, edit)  # 1
        return self.applied > 0

    def _merge(self, node: gs.Node, layers: list[LinearMatch], edit: Editor) -> None:
        base = node.name.rsplit("/", 1)[0]
        weight = np.concatenate([np.asarray(layer.weight.values) for layer in layers], axis=1)
        result = edit.add("MatMul", [layers[0].source, edit.constant(f"{base}/weight", weight)], f"{base}/MatMul")
        if any(layer.bias is not None for layer in layers):
            bias = np.concatenate([layer.bias_values() for layer in layers])
            result = edit.add("Add", [result, edit.constant(f"{base}/bias", bias)], f"{base}/Add")
        edit.replace(node.outputs[0], result)
        node.outputs.clear()
        self.applied += 1
