"""Writes ONNX Runtime's LayerNormalization of a sum in standard operators."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.errors import UnsupportedModelError
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.runtime_operators import is_runtime, unsupported

# The first opset with LayerNormalization.
_OLDEST = 17


class ExpandSkipNorm(Pass):
    """Writes ONNX Runtime's LayerNormalization of a sum in standard operators.

    **Before**: `SkipLayerNormalization(x, skip, gamma[, beta][, bias]; epsilon)` of domain `com.microsoft`, perhaps
    with the sum as its fourth result.

    **After**: `Add(x, skip)`, `Add(., bias)` where there is one, and `LayerNormalization(., gamma, beta; epsilon)`.
      1. Without beta a beta of zeros; without epsilon that of the fused operator, 1e-12.
      2. Readers of the fourth result read the sum.

    **Leaves alone**
      3. The standard `LayerNormalization`.

    **Refuses the model**: opsets before 17, which have no LayerNormalization; mean or variance that something reads.
    """

    OPERATORS = ("SkipLayerNormalization",)

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if is_runtime(node, self.OPERATORS)]:  # 3
            if graph.opset < _OLDEST:
                raise unsupported(node, f"in a model of opset {graph.opset}")
            self._expand(node, edit)
        return self.applied > 0

    def _expand(self, node: gs.Node, edit: Editor) -> None:
        if any(tensor.outputs or any(tensor is item for item in edit.graph.outputs) for tensor in node.outputs[1:3]):
            raise unsupported(node, "whose mean or variance is read")
        inputs = [tensor if not tensor.is_empty() else None for tensor in node.inputs]
        x, skip, gamma, beta, bias = (*inputs, None, None)[:5]
        if x is None or skip is None or gamma is None:
            raise UnsupportedModelError(f"node '{node.name}' ({node.op}) lacks an input; export the model again")
        total = edit.add("Add", [x, skip], f"{node.name}/Add")
        if bias is not None:
            total = edit.add("Add", [total, bias], f"{node.name}/Add")
        if beta is None:  # 1
            beta = edit.constant(f"{node.name}/beta", np.zeros(gamma.shape, np.float32))
        attributes = {"axis": -1, "epsilon": float(node.attrs.get("epsilon", 1e-12))}
        result = edit.add("LayerNormalization", [total, gamma, beta], f"{node.name}/LayerNormalization", attributes)
        if len(node.outputs) > 3 and not node.outputs[3].is_empty():  # 2
            edit.replace(node.outputs[3], total)
        edit.replace(node.outputs[0], result)
        node.outputs.clear()
        self.applied += 1
