"""Fuse the LayerNormalization in front of a lowered linear layer into it."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_constant
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.passes import Pass

_LINEARS = ("GroupLinear", "GroupLinearGelu", "BlockLinear", "BlockLinearGelu")


class FusePrologue(Pass):
    """Lets the quantizer of a linear layer read the LayerNormalization's input while it is in cache.

    **Before**: `LayerNormalization(axis=-1)` with constant scale and bias, read only by
      1. `GroupLinear` or `BlockLinear`, or
      2. `GroupLinearGelu` or `BlockLinearGelu`.

    **After**
      1. `LayerNormGroupLinear(X, gamma, beta, ...)` or `LayerNormBlockLinear(X, gamma, beta, ...)`.
      2. `LayerNormGroupLinearGelu(X, gamma, beta, ...)` or `LayerNormBlockLinearGelu(X, gamma, beta, ...)`.

    **Leaves alone**
      3. A LayerNormalization with several readers, without a bias, or over another axis.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for norm in [node for node in graph.nodes if node.op == "LayerNormalization"]:
            readers = norm.outputs[0].outputs
            is_output = any(norm.outputs[0] is tensor for tensor in graph.outputs)
            if len(readers) != 1 or readers[0].op not in _LINEARS or is_output:
                found = [node.op for node in readers]
                self.refuse(norm, "it is not read by one lowered linear layer alone", found)  # 3
                continue
            rank = len(norm.inputs[0].shape or ())
            constant = len(norm.inputs) == 3 and is_constant(norm.inputs[1]) and is_constant(norm.inputs[2])
            if not constant or norm.attrs.get("axis", -1) not in (-1, rank - 1):
                self.refuse(norm, "it has no constant scale and bias over the last axis")  # 3
                continue
            linear = readers[0]
            attributes = {**linear.attrs, "epsilon": float(norm.attrs.get("epsilon", 1e-5))}
            inputs = [*norm.inputs, *linear.inputs[1:]]
            fused = edit.add(f"LayerNorm{linear.op}", inputs, f"{linear.name}/fused", attributes, domain=DOMAIN)
            fused.shape = linear.outputs[0].shape
            fused_node = fused.inputs[0]
            fused_node.name, linear.name = linear.name, fused_node.name  # the fused node keeps the layer's name
            edit.replace(linear.outputs[0], fused)
            self.applied += 1
        return self.applied > 0
