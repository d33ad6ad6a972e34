"""From a Softmax to the two products of an attention, through whatever stands between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable, producer, single_consumer
from qcompiler.ir.dims import Shape
from qcompiler.ir.layout import is_layout, scalar_factor
from qcompiler.ir.shapes import ShapeInfo

_ORDER_PRESERVING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})


@dataclass(frozen=True)
class Scores:
    """The parts of an attention as the exporter spelled it.

    Attributes:
        queries: left operand of the first product, [..., N, D].
        keys: right operand of the first product, [..., D, N].
        values: right operand of the second product, [..., N, D].
        product: the first MatMul node.
        mixing: the second MatMul node.
        factor: product of the scalar factors between product and softmax.
        per_head: factors [heads, 1, 1] between product and softmax that differ between heads; None without any.
        added: constants added to the scaled scores, each with the shape of the tensor that it is added to.
    """

    queries: gs.Tensor
    keys: gs.Tensor
    values: gs.Tensor
    product: gs.Node
    mixing: gs.Node
    factor: float
    per_head: np.ndarray | None
    added: tuple[tuple[np.ndarray, Shape], ...]


def find_scores(softmax: gs.Node, graph: gs.Graph, info: ShapeInfo) -> Scores | str:
    """The parts of the attention around a Softmax, or the reason why there is none."""
    shape = info.shape(softmax.inputs[0])
    if shape is None or softmax.attrs.get("axis", -1) not in (-1, len(shape) - 1):
        return "a softmax over another axis than the last"
    mixing = single_consumer(softmax.outputs[0], graph)
    if mixing is None or mixing.op != "MatMul" or mixing.inputs[0] is not softmax.outputs[0]:
        return "its result is not read by one product with values"
    if not is_variable(mixing.inputs[1]):
        return "the values are constant"
    factor = 1.0
    per_head: np.ndarray | None = None
    added: list[tuple[np.ndarray, Shape]] = []
    tensor = softmax.inputs[0]
    while True:
        node = producer(tensor)
        if node is None or single_consumer(tensor, graph) is None:
            return f"the scores '{tensor.name}' are read elsewhere or not computed"
        shape = info.shape(tensor)
        scaled = scalar_factor(node)
        term = _constant_term(node)
        heads = _head_factor(node, shape)
        if scaled is not None:
            tensor, factor = scaled[0], factor * scaled[1]
        elif heads is not None:
            tensor, per_head = heads[0], heads[1] if per_head is None else heads[1] * per_head
        elif term is not None and shape is not None and per_head is None:
            tensor = term[0]
            added.append((term[1] * np.float32(factor), shape))
        elif is_layout(node) and node.op in _ORDER_PRESERVING:
            tensor = node.inputs[0]
        elif node.op == "MatMul" and is_variable(node.inputs[0]) and is_variable(node.inputs[1]):
            operands = (node.inputs[0], node.inputs[1], mixing.inputs[1])
            return Scores(*operands, node, mixing, factor, per_head, tuple(added))
        else:
            return f"the scores are changed by node '{node.name}' ({node.op})"


def _head_factor(node: gs.Node, shape: Shape | None) -> tuple[gs.Tensor, np.ndarray] | None:
    """`(x, c)` for `x * c` with a constant c [heads, 1, 1] and x [B, heads, N, N]."""
    if node.op != "Mul" or shape is None or len(shape) != 4:
        return None
    for index in (0, 1):
        values = array_of(node.inputs[1 - index])
        if values is None or not is_variable(node.inputs[index]) or values.ndim > 4:
            continue
        full = (1,) * (4 - values.ndim) + values.shape
        if full == (1, shape[1], 1, 1) and values.size > 1:
            return node.inputs[index], values.reshape(-1, 1, 1).astype(np.float32)
    return None


def _constant_term(node: gs.Node) -> tuple[gs.Tensor, np.ndarray] | None:
    """`(x, c)` for `x + c` or `x - c` with constant c."""
    if node.op not in ("Add", "Sub"):
        return None
    values = array_of(node.inputs[1])
    if values is not None and is_variable(node.inputs[0]):
        return node.inputs[0], values if node.op == "Add" else -values
    values = array_of(node.inputs[0])
    if values is not None and node.op == "Add" and is_variable(node.inputs[1]):
        return node.inputs[1], values
    return None
