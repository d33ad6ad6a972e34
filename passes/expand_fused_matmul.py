"""Writes ONNX Runtime's products with a factor and transposes in standard operators."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.runtime_operators import is_runtime, unsupported
from qcompiler.ir.shapes import ShapeInfo, infer


class ExpandFusedMatmul(Pass):
    """Writes ONNX Runtime's products with a factor and transposes in standard operators.

    **Before**
      1. `FusedMatMul(A, B; alpha, transA, transB)` or `TransposeMatMul` of domain `com.microsoft`.
      2. The same with a constant operand that is transposed.

    **After**: `Mul(MatMul(A', B'), alpha)`, without the Mul where alpha is 1.
      1. The last two axes of a transposed operand change places in a `Transpose`.
      2. The constant itself is transposed.

    **Leaves alone**
      3. Standard products.

    **Refuses the model**: `transBatchA`, `transBatchB`; a transposed operand of unknown rank.
    """

    OPERATORS = ("FusedMatMul", "TransposeMatMul")

    def apply(self, graph: gs.Graph) -> bool:
        nodes = [node for node in graph.nodes if is_runtime(node, self.OPERATORS)]  # 3
        if not nodes:
            return False
        edit, info = Editor(graph), infer(graph)
        for node in nodes:
            self._expand(node, info, edit)
        return True

    def _expand(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        if node.attrs.get("transBatchA", 0) or node.attrs.get("transBatchB", 0):
            raise unsupported(node, "with transposed batch axes")
        operands = [
            _transposed(tensor, node, info, edit) if node.attrs.get(name, 0) else tensor
            for tensor, name in zip(node.inputs, ("transA", "transB"), strict=True)
        ]
        x = edit.add("MatMul", operands, f"{node.name}/MatMul")
        alpha = float(node.attrs.get("alpha", 1.0))
        if alpha != 1.0:
            factor = edit.constant(f"{node.name}/alpha", np.array(alpha, np.float32))
            x = edit.add("Mul", [x, factor], f"{node.name}/Mul")
        edit.replace(node.outputs[0], x)
        node.outputs.clear()
        self.applied += 1


def _transposed(tensor: gs.Tensor, node: gs.Node, info: ShapeInfo, edit: Editor) -> gs.Tensor:
    values = array_of(tensor)
    if values is not None:  # 2
        return edit.constant(f"{tensor.name}/transposed", values.swapaxes(-1, -2))
    shape = info.shape(tensor)
    if shape is None:
        raise unsupported(node, "with a transposed operand of unknown rank")
    rank = len(shape)
    return edit.transpose(tensor, [*range(rank - 2), rank - 1, rank - 2], f"{node.name}/Transpose")  # 1
