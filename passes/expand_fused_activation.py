"""Writes ONNX Runtime's convolutions and Gemms with an activation in standard operators."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.runtime_operators import is_runtime, unsupported

# The activations and the attributes that their parameters become, in order.
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}


class ExpandFusedActivation(Pass):
    """Writes ONNX Runtime's convolutions and Gemms with an activation in standard operators.

    **Before**, of domain `com.microsoft`:
      1. `FusedConv(x, W[, b][, z]; activation, activation_params, ...)`.
      2. `FusedGemm(x, W[, b]; activation, activation_alpha, activation_beta, ...)`.

    **After**: `Conv` or `Gemm` with the other attributes, `Add(., z)` where there is a z, and the activation `Relu`,
    `Sigmoid`, `Tanh`, `LeakyRelu` or `HardSigmoid`.

    **Leaves alone**
      3. The standard `Conv` and `Gemm`.

    **Refuses the model**: other activations (`Clip`).
    """

    OPERATORS = ("FusedConv", "FusedGemm")

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if is_runtime(node, self.OPERATORS)]:  # 3
            self._expand(node, edit)
        return self.applied > 0

    def _expand(self, node: gs.Node, edit: Editor) -> None:
        attrs = dict(node.attrs)
        activation = str(attrs.pop("activation", ""))
        given = list(attrs.pop("activation_params", []))  # 1
        given += [attrs.pop(name) for name in ("activation_alpha", "activation_beta") if name in attrs]  # 2
        attrs.pop("activation_gamma", None)
        if activation and activation not in _ACTIVATIONS:
            raise unsupported(node, f"with the activation '{activation}'")
        op = node.op.removeprefix("Fused")
        x = edit.add(op, node.inputs[:3], f"{node.name}/{op}", attrs)
        if len(node.inputs) > 3 and not node.inputs[3].is_empty():
            x = edit.add("Add", [x, node.inputs[3]], f"{node.name}/Add")
        if activation:
            # Parameters that are not given have the standard operator's defaults.
            parameters = dict(zip(_ACTIVATIONS[activation], map(float, given), strict=False))
            x = edit.add(activation, [x], f"{node.name}/{activation}", parameters)
        edit.replace(node.outputs[0], x)
        node.outputs.clear()
        self.applied += 1
