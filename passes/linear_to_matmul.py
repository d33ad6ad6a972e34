"""Writes every linear layer as MatMul(x, W) and Add(., b)."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable, single_consumer
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass


class LinearToMatmul(Pass):
    """Writes every linear layer as MatMul(x, W) and Add(., b).

    **Before**
      1. `Gemm(x, W[, b]; alpha, beta, transA, transB)` with constant W, and constant b if there is one.
      2. `Add(b, MatMul(x, W))` with constant W [C, D] and b of D elements, in any order and with leading axes of 1; or
         a scalar b.
      3. `Sub(MatMul(x, W), b)` with the same.

    **After**: `MatMul(x, W)` with W [C, D], and `Add(., b)` with b [D] as second input.
      1. alpha, beta and transB are computed into W and b; transA becomes a Transpose of x.
      3. b changes its sign.

    **Leaves alone**
      4. Products of two computed tensors, and constants on the left.
      5. Additions of constants that differ between tokens (position embeddings).
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Gemm":
                self._from_gemm(node, edit)
        for node in list(graph.nodes):
            if node.op == "MatMul":
                self._order_bias(node, edit)
        return self.applied > 0

    def _from_gemm(self, node: gs.Node, edit: Editor) -> None:
        """Case 1."""
        weight = array_of(node.inputs[1])
        bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
        if weight is None or (len(node.inputs) > 2 and bias is None):
            self.refuse(node, "the weight or the bias is not constant")  # 4
            return
        alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
        if node.attrs.get("transB", 0):
            weight = weight.T
        if bias is not None and not _is_bias(bias, weight.shape[1]):
            self.refuse(node, "the bias differs between rows", bias.shape)
            return
        base = node.name.rsplit("/", 1)[0] if "/" in node.name else node.name
        x = node.inputs[0]
        if node.attrs.get("transA", 0):
            x = edit.transpose(x, [1, 0], f"{base}/Transpose")
        unchanged = alpha == 1.0 and not node.attrs.get("transB", 0)
        weight_name = f"{node.inputs[1].name}" if unchanged else f"{node.inputs[1].name}/transposed"
        constant = node.inputs[1] if unchanged else edit.constant(weight_name, _scaled(weight, alpha))
        result = edit.add("MatMul", [x, constant], f"{base}/MatMul")
        if bias is not None:
            plain = beta == 1.0 and bias.shape == (weight.shape[1],)
            values = _scaled(np.broadcast_to(bias.reshape(-1), (weight.shape[1],)), beta)
            shift = node.inputs[2] if plain else edit.constant(f"{node.inputs[2].name}/scaled", values)
            result = edit.add("Add", [result, shift], f"{base}/Add")
        edit.replace(node.outputs[0], result)
        node.outputs.clear()
        self.applied += 1

    def _order_bias(self, matmul: gs.Node, edit: Editor) -> None:
        """Cases 2 and 3."""
        weight = array_of(matmul.inputs[1])
        node = single_consumer(matmul.outputs[0], edit.graph)
        if weight is None or weight.ndim != 2 or not is_variable(matmul.inputs[0]):  # 4
            return
        if node is None or node.op not in ("Add", "Sub"):
            return
        if node.op == "Sub" and node.inputs[0] is not matmul.outputs[0]:
            return
        other = next(tensor for tensor in node.inputs if tensor is not matmul.outputs[0])
        bias = array_of(other)
        if bias is None:
            return
        if not _is_bias(bias, weight.shape[1]):
            self.refuse(node, "the added constant differs between tokens", bias.shape)  # 5
            return
        if node.op == "Add" and node.inputs[1] is other and bias.shape == (weight.shape[1],):
            return
        if bias.shape != (weight.shape[1],) or node.op == "Sub":
            values = np.broadcast_to(bias.reshape(-1), (weight.shape[1],))
            other = edit.constant(f"{other.name}/flat", _scaled(values, -1.0 if node.op == "Sub" else 1.0))
        node.op = "Add"
        node.inputs = [matmul.outputs[0], other]
        self.applied += 1


def _is_bias(values: np.ndarray, outputs: int) -> bool:
    """Whether an added constant is the same for every row."""
    return values.size == 1 or (values.size == outputs and values.shape[-1] == outputs)


def _scaled(values: np.ndarray, factor: float) -> np.ndarray:
    return np.array(values * np.float32(factor) if factor != 1.0 else values, dtype=values.dtype, order="C")
