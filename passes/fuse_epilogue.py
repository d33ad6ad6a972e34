"""Fuse what follows a lowered linear layer into it: GELU, or the addition of the residual."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_variable
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.passes import Pass

_LINEARS = ("GroupLinear", "BlockLinear")


class FuseEpilogue(Pass):
    """Lets the product write the result of the elementwise node behind it.

    **Before**: `GroupLinear` or `BlockLinear` whose result is read by one node only, which is
      1. `Gelu`.
      2. `Add` of a tensor of the same shape (the residual), on either side.

    **After**
      1. `GroupLinearGelu` or `BlockLinearGelu`.
      2. `GroupLinearAdd` or `BlockLinearAdd`.

    **Leaves alone**
      3. A result with several readers, or that is an output of the graph.
      4. An addition that broadcasts.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        position = {id(node): index for index, node in enumerate(graph.nodes)}
        for node in [node for node in graph.nodes if node.op in _LINEARS]:
            result = node.outputs[0]
            if len(result.outputs) != 1 or any(result is output for output in graph.outputs):
                self.refuse(node, "its result has several readers", len(result.outputs))  # 3
                continue
            reader = result.outputs[0]
            if reader.op == "Gelu":
                node.attrs["approximate"] = reader.attrs.get("approximate", "none")
                self._fuse(edit, node, reader, f"{node.op}Gelu", [])  # 1
            elif reader.op == "Add":
                other = reader.inputs[1] if reader.inputs[0] is result else reader.inputs[0]
                if not is_variable(other) or other is result or other.shape is None or other.shape != result.shape:
                    self.refuse(node, "the tensor added to it has another shape", getattr(other, "shape", None))  # 4
                    continue
                if _is_later_linear(other, node, position):
                    continue  # it will take this result as its own residual
                self._fuse(edit, node, reader, f"{node.op}Add", [other])  # 2
        return self.applied > 0

    def _fuse(self, edit: Editor, node: gs.Node, reader: gs.Node, op: str, extra: list[gs.Tensor]) -> None:
        fused = edit.add(op, [*node.inputs, *extra], f"{node.name}/fused", dict(node.attrs), domain=DOMAIN)
        fused.shape = reader.outputs[0].shape
        fused_node = fused.inputs[0]
        fused_node.name, node.name = node.name, fused_node.name  # the fused node keeps the layer's name
        edit.replace(reader.outputs[0], fused)
        self.applied += 1


def _is_later_linear(tensor: gs.Tensor, node: gs.Node, position: dict[int, int]) -> bool:
    """Whether the tensor is the result of a lowered linear layer behind ``node`` that only one node reads."""
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None or maker.op not in _LINEARS or len(tensor.outputs) != 1:
        return False
    return position.get(id(maker), -1) > position[id(node)]
