"""Matching a linear layer: MatMul with a constant matrix and, if it has one, the Add of its bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_variable, producer, single_consumer


@dataclass(frozen=True)
class LinearMatch:
    """The nodes and tensors of a linear layer.

    Attributes:
        matmul: the MatMul node.
        add: the Add node of the bias, or None.
        source: the input.
        weight: the matrix [C, D].
        bias: the bias [D], or None.
        output: the result.
    """

    matmul: gs.Node
    add: gs.Node | None
    source: gs.Tensor
    weight: gs.Constant
    bias: gs.Constant | None
    output: gs.Variable

    def bias_values(self) -> np.ndarray:
        """The bias [D], zeros where there is none."""
        if self.bias is None:
            return np.zeros(self.weight.shape[1], np.float32)
        return np.asarray(self.bias.values)


def is_linear(node: gs.Node | None) -> bool:
    """Whether a node is the MatMul of a linear layer."""
    return (
        node is not None
        and node.op == "MatMul"
        and is_variable(node.inputs[0])
        and isinstance(node.inputs[1], gs.Constant)
        and len(node.inputs[1].shape) == 2
    )


def linear_at(matmul: gs.Node, graph: gs.Graph) -> LinearMatch | None:
    """The linear layer of a MatMul node, or None when it is a product of something else."""
    if not is_linear(matmul):
        return None
    weight, output = matmul.inputs[1], matmul.outputs[0]
    add = single_consumer(output, graph)
    if add is not None and _is_bias_of(add, matmul):
        return LinearMatch(matmul, add, matmul.inputs[0], weight, add.inputs[1], add.outputs[0])
    return LinearMatch(matmul, None, matmul.inputs[0], weight, None, output)


def linear_of(tensor: gs.Tensor, graph: gs.Graph) -> LinearMatch | None:
    """The linear layer whose result is `tensor`, or None."""
    node = producer(tensor)
    if node is not None and node.op == "Add":
        node = producer(node.inputs[0])
    found = linear_at(node, graph) if node is not None else None
    return found if found is not None and found.output is tensor else None


def _is_bias_of(add: gs.Node, matmul: gs.Node) -> bool:
    bias = add.inputs[1] if add.op == "Add" and add.inputs[0] is matmul.outputs[0] else None
    return isinstance(bias, gs.Constant) and tuple(bias.shape) == (matmul.inputs[1].shape[1],)
