"""Quantize the two products of attention: queries, keys, values and the softmax's output."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.editing import Editor
from qcompiler.ir.group_nodes import add_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.plan import AttentionPlan

_QUANTIZED_READERS = ["GroupQuantizeLinear", "GroupSort"]


class QuantizeAttention(Pass):
    """Writes the plan of every attention block into the graph as readable nodes.

    **Before**: `MatMul(q, k)`, ..., `Softmax`, `MatMul(p, v)` of a block in the plan, `k` transposed to [.., D, N].

    **After**: each of q, k, p and v passes through its own group quantizer.
      1. q and p: rows are items. k: its columns are, for it is transposed. v: channels are.
      2. p with a codebook: the codes pick operands from the levels.

    **Leaves alone**
      3. A Softmax that the plan does not name.

    Args:
        plans: Plans by the name of the Softmax.
    """

    def __init__(self, plans: Mapping[str, AttentionPlan]) -> None:
        super().__init__()
        self._plans = plans

    def requires(self, graph: gs.Graph) -> None:
        """Every planned block has its Softmax, read by one product or by its own quantizer."""
        nodes = {node.name: node for node in graph.nodes}
        for name in self._plans:
            node = nodes.get(name)
            readers = [] if node is None else sorted(reader.op for reader in node.outputs[0].outputs)
            if node is None or node.op != "Softmax" or readers not in (["MatMul"], _QUANTIZED_READERS):
                raise VerificationError(f"the plan names '{name}', which is no Softmax of an attention block")

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
            plan = self._plans.get(softmax.name)
            if plan is None:
                self.refuse(softmax, "not in the plan")  # 3
                continue
            scores = score_product(softmax)
            context = softmax.outputs[0].outputs[0]
            if context.op != "MatMul":
                continue  # already quantized
            if scores is None:
                self.refuse(softmax, "no product of queries and keys in front of it")
                continue
            name = softmax.name.rsplit("/", 1)[0]
            query, key = scores.inputs
            scores.inputs = [
                add_group_quantizer(edit, query, plan.query.to_array(), plan.query.bits, ROWS, f"{name}/query"),
                add_group_quantizer(edit, key, plan.key.to_array(), plan.key.bits, CHANNELS, f"{name}/key"),  # 1
            ]
            levels = edit.constant(f"{name}.levels", plan.levels) if plan.codebook else None  # 2
            probability, value = context.inputs
            table = plan.probability
            context.inputs = [
                add_group_quantizer(
                    edit, probability, table.to_array(), table.bits, ROWS, f"{name}/probability", levels
                ),
                add_group_quantizer(edit, value, plan.value.to_array(), plan.value.bits, CHANNELS, f"{name}/value"),
            ]
            self.applied += 1
        return self.applied > 0


def score_product(softmax: gs.Node) -> gs.Node | None:
    """The product of queries and keys behind a Softmax: up through mask, window reshapes and scale."""
    tensor = softmax.inputs[0]
    while tensor.inputs and tensor.inputs[0].op in ("Add", "Reshape", "Mul"):
        tensor = tensor.inputs[0].inputs[0]
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op == "MatMul" else None
