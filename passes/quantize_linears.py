"""Quantize linear layers: integer weights, and quantizers of groups or of blocks on their inputs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.block_nodes import add_block_quantizer, add_weight
from qcompiler.ir.constants import is_constant
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.group_nodes import add_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.plan import LinearPlan


class QuantizeLinears(Pass):
    """Writes the plan of every linear layer into the graph as readable nodes.

    **Before**: `MatMul(X, W)` with a constant W, whose name is in the plan.
      1. The plan groups the input and normalises rows.
      2. The plan groups the input and does not normalise rows.
      3. The plan cuts the tokens of the input into blocks; rows are never normalised. Where it rotates channels, its
         weight is that of the rotated ones.
      4. The plan has one scale per output channel of the weight.
      5. The plan has integer multiples and zero points per block of input channels too.

    **After**: `MatMul(X^, W^)` with
      1. `normalized, norm = RowNorm(X)`; `X^ = norm * GroupDequantizeLinear(GroupQuantizeLinear(normalized))`.
      2. `X^ = GroupDequantizeLinear(GroupQuantizeLinear(X))`.
      3. `X^ = BlockDequantizeLinear(BlockQuantizeLinear(X))`.
      4. `W^ = DequantizeLinear(codes, scale)`.
      5. `W^ = DequantizeLinear(codes, multiplier, zero_point; block_size) * scale`.

    **Leaves alone**
      6. A MatMul that the plan does not name.

    Args:
        plans: Plans by the name of the MatMul.
    """

    def __init__(self, plans: Mapping[str, LinearPlan]) -> None:
        super().__init__()
        self._plans = plans

    def requires(self, graph: gs.Graph) -> None:
        """Every planned layer is a MatMul with a constant weight of the planned shape, which its blocks divide."""
        nodes = {node.name: node for node in graph.nodes}
        for name, plan in self._plans.items():
            node = nodes.get(name)
            if node is None or node.op != "MatMul":
                raise VerificationError(f"the plan names '{name}', which is no MatMul of the graph")
            shape, planned = node.inputs[1].shape, plan.weight.codes.shape
            if is_constant(node.inputs[1]) and tuple(shape) != planned:
                raise VerificationError(f"the plan of '{name}' is for a weight of shape {planned}, not {tuple(shape)}")
            _check_blocks(plan)

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "MatMul"]:
            plan = self._plans.get(node.name)
            if plan is None:
                if is_constant(node.inputs[1]):
                    self.refuse(node, "not in the plan")  # 6
                continue
            if isinstance(node.inputs[1], gs.Constant):
                self._quantize(edit, node, plan)
                self.applied += 1
        return self.applied > 0

    def _quantize(self, edit: Editor, node: gs.Node, plan: LinearPlan) -> None:
        x, weight = node.inputs
        found = plan.weight
        blocks = None if found.blocks is None else (found.blocks.multiplier, found.blocks.zero_point)  # 4, 5
        read_back = _quantized_input(edit, x, plan)
        node.inputs = [read_back, add_weight(edit, found.codes, found.bits, found.scale, blocks, weight.name)]


def _quantized_input(edit: Editor, x: gs.Tensor, plan: LinearPlan) -> gs.Variable:
    quantizer, name = plan.input, plan.name
    if isinstance(quantizer, BlockQuantizer):  # 3
        bits, block, clip, slack = quantizer.bits, quantizer.block, quantizer.clip, quantizer.slack
        return add_block_quantizer(edit, x, bits, block, clip, slack, name, rotate=quantizer.rotate)
    table = quantizer.to_array()
    if not plan.normalize:  # 2
        return add_group_quantizer(edit, x, table, quantizer.bits, quantizer.axis, name)
    normalized, norm = edit.add_many("RowNorm", [x], f"{name}/RowNorm", 2, {"normalize": 1}, domain=DOMAIN)  # 1
    read_back = add_group_quantizer(edit, normalized, table, quantizer.bits, quantizer.axis, name)
    return edit.add("Mul", [read_back, norm], f"{name}/rescale")


def _check_blocks(plan: LinearPlan) -> None:
    channels = len(plan.weight.codes)
    if isinstance(plan.input, BlockQuantizer) and channels % plan.input.block:
        raise VerificationError(
            f"the plan of '{plan.name}' cuts tokens of {channels} channels into blocks of {plan.input.block}"
        )
    if isinstance(plan.input, BlockQuantizer) and channels % plan.input.rotate:
        raise VerificationError(
            f"the plan of '{plan.name}' rotates tokens of {channels} channels in sets of {plan.input.rotate}"
        )
    if plan.weight.blocks is not None and channels % len(plan.weight.blocks.multiplier):
        raise VerificationError(
            f"the plan of '{plan.name}' cuts {channels} input channels into {len(plan.weight.blocks.multiplier)} blocks"
        )
