"""Lower quantized linear layers onto the fused operator of the runtime."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_constant
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.group_nodes import GroupQuantizer, find_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.groups import GroupTable


class LowerLinears(Pass):
    """Replaces the readable nodes of a linear layer by one `GroupLinear`.

    **Before**: `MatMul(X^, DequantizeLinear(W, w_scale))` with
      1. `X^ = norm * GroupDequantizeLinear(...)` and `norm` from `RowNorm`, or
      2. `X^ = GroupDequantizeLinear(...)`;
      3. and, where it is there, an `Add` of a constant bias as its only reader.

    **After**: `GroupLinear(X, W, w_scale, groups, bias)`; without a bias it is zeros, because a function body cannot
    leave an input out.

    **Leaves alone**
      4. A MatMul whose operands are not quantized like this.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "MatMul"]:
            weight = node.inputs[1].inputs[0] if node.inputs[1].inputs else None
            if weight is None or weight.op != "DequantizeLinear":
                continue  # 4: float products are not this pass's business
            found = _input_quantizer(node.inputs[0])
            if found is None or found[0].levels is not None:
                self.refuse(node, "its input is not one group quantizer", node.inputs[0].name)  # 4
                continue
            self._lower(edit, node, weight, *found)
            self.applied += 1
        return self.applied > 0

    def _lower(self, edit: Editor, node: gs.Node, weight: gs.Node, quantizer: GroupQuantizer, normalize: int) -> None:
        codes, w_scale = weight.inputs
        result = node.outputs[0]
        bias: gs.Tensor | None = None
        if len(result.outputs) == 1 and result.outputs[0].op == "Add" and is_constant(result.outputs[0].inputs[1]):
            add = result.outputs[0]  # 3
            if add.inputs[1].values.shape == w_scale.values.shape:
                bias, result = add.inputs[1], add.outputs[0]
        if bias is None:
            bias = edit.constant(f"{node.name}.bias", np.zeros(w_scale.values.shape, np.float32))
        table = GroupTable.from_array(quantizer.groups.values, quantizer.axis, quantizer.bits)
        attributes = {
            "bits": quantizer.bits,
            "axis": quantizer.axis,
            "segments": int(table.exact),
            "normalize": normalize,
        }
        inputs = [_source(quantizer.x, normalize), codes, w_scale, quantizer.groups, bias]
        name = node.name
        node.name = edit.free_name(f"{name}/replaced")  # the fused node keeps the layer's name
        lowered = edit.add("GroupLinear", inputs, f"{name}/lowered", attributes, domain=DOMAIN)
        lowered.inputs[0].name = name
        lowered.shape = result.shape
        edit.replace(result, lowered)


def _input_quantizer(tensor: gs.Tensor) -> tuple[GroupQuantizer, int] | None:
    """The quantizer of a linear layer's input and whether rows are normalised in front of it."""
    producer = tensor.inputs[0] if tensor.inputs else None
    if producer is not None and producer.op == "Mul":  # 1
        found = find_group_quantizer(producer.inputs[0])
        norm = producer.inputs[1].inputs[0] if producer.inputs[1].inputs else None
        if found is None or norm is None or norm.op != "RowNorm" or found.x is not norm.outputs[0]:
            return None
        return found, 1
    found = find_group_quantizer(tensor)  # 2
    return (found, 0) if found is not None else None


def _source(x: gs.Tensor, normalize: int) -> gs.Tensor:
    return x.inputs[0].inputs[0] if normalize else x
