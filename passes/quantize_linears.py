"""Quantize linear layers: integer weights, and instance-aware group quantizers on their inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.constants import is_constant
from qcompiler.ir.editing import Editor
from qcompiler.ir.group_nodes import add_group_quantizer
from qcompiler.ir.integer_weights import integer_constant
from qcompiler.ir.passes import Pass
from qcompiler.quant.plan import LinearPlan


class QuantizeLinears(Pass):
    """Writes the plan of every linear layer into the graph as readable nodes.

    **Before**: `MatMul(X, W)` with a constant W, whose name is in the plan.
      1. The plan normalises rows.
      2. The plan does not.

    **After**: `MatMul(X^, W^)` with `W^ = DequantizeLinear(codes, scale)` per output channel and
      1. `normalized, norm = RowNorm(X)`; `X^ = norm * GroupDequantizeLinear(GroupQuantizeLinear(normalized))`.
      2. `X^ = GroupDequantizeLinear(GroupQuantizeLinear(X))`.

    **Leaves alone**
      3. A MatMul that the plan does not name.

    Args:
        plans: Plans by the name of the MatMul.
    """

    def __init__(self, plans: Mapping[str, LinearPlan]) -> None:
        super().__init__()
        self._plans = plans

    def requires(self, graph: gs.Graph) -> None:
        """Every planned layer is a MatMul with a constant weight of the planned shape."""
        nodes = {node.name: node for node in graph.nodes}
        for name, plan in self._plans.items():
            node = nodes.get(name)
            if node is None or node.op != "MatMul":
                raise VerificationError(f"the plan names '{name}', which is no MatMul of the graph")
            shape, planned = node.inputs[1].shape, plan.weight.codes.shape
            if is_constant(node.inputs[1]) and tuple(shape) != planned:
                raise VerificationError(f"the plan of '{name}' is for a weight of shape {planned}, not {tuple(shape)}")

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "MatMul"]:
            plan = self._plans.get(node.name)
            if plan is None:
                if is_constant(node.inputs[1]):
                    self.refuse(node, "not in the plan")  # 3
                continue
            if isinstance(node.inputs[1], gs.Constant):
                self._quantize(edit, node, plan)
                self.applied += 1
        return self.applied > 0

    def _quantize(self, edit: Editor, node: gs.Node, plan: LinearPlan) -> None:
        x, weight = node.inputs
        norm = None
        if plan.normalize:  # 1
            x, norm = edit.add_many("RowNorm", [x], f"{node.name}/RowNorm", 2, {"normalize": 1}, domain="qcompiler")
        read_back = add_group_quantizer(edit, x, plan.table.to_array(), plan.table.bits, plan.table.axis, node.name)
        if norm is not None:
            read_back = edit.add("Mul", [read_back, norm], f"{node.name}/rescale")
        codes = integer_constant(edit.free_name(f"{weight.name}_quantized"), plan.weight.codes, plan.weight.bits)
        scale = edit.constant(f"{weight.name}_scale", plan.weight.scale.astype(np.float32))
        dequantized = edit.add("DequantizeLinear", [codes, scale], f"{weight.name}_DequantizeLinear", {"axis": 1})
        node.inputs = [read_back, dequantized]
