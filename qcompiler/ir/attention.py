"""Matching an attention block in its canonical spelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, ints_of, producer, scalar_of, single_consumer


@dataclass(frozen=True)
class AttentionMatch:
    """The nodes and tensors of an attention block.

    Attributes:
        qkv: queries, keys and values in one tensor [B, N, 3 H D].
        split: the Split node.
        heads: the Reshape and Transpose nodes of q, k and v.
        scores: the MatMul node of queries and keys.
        scaling: the Mul node of the scale.
        bias_nodes: the Add node of the bias, with the Reshape nodes around it when there are several windows.
        softmax: the Softmax node.
        mixing: the MatMul node of probabilities and values.
        joining: the Transpose and Reshape nodes of the result.
        num_heads: H.
        head_dim: D.
        scale: factor of the scores.
        bias: constant added to the scaled scores, or None.
        output: the result [B, N, H D].
    """

    qkv: gs.Tensor
    split: gs.Node
    heads: tuple[gs.Node, ...]
    scores: gs.Node
    scaling: gs.Node
    bias_nodes: tuple[gs.Node, ...]
    softmax: gs.Node
    mixing: gs.Node
    joining: tuple[gs.Node, ...]
    num_heads: int
    head_dim: int
    scale: float
    bias: gs.Constant | None
    output: gs.Variable

    @property
    def nodes(self) -> tuple[gs.Node, ...]:
        """All nodes of the block, inputs first."""
        return (
            self.split,
            *self.heads,
            self.scores,
            self.scaling,
            *self.bias_nodes,
            self.softmax,
            self.mixing,
            *self.joining,
        )


def match_attention(softmax: gs.Node, graph: gs.Graph) -> AttentionMatch | None:
    """The attention block around a Softmax, if it has the canonical spelling."""
    if softmax.op != "Softmax" or softmax.attrs.get("axis", -1) != -1:
        return None
    bias_nodes, bias = _bias(softmax.inputs[0])
    scaling = producer(bias_nodes[0].inputs[0] if bias_nodes else softmax.inputs[0])
    if scaling is None or scaling.op != "Mul" or scalar_of(scaling.inputs[1]) is None:
        return None
    scores = producer(scaling.inputs[0])
    mixing = single_consumer(softmax.outputs[0], graph)
    if scores is None or scores.op != "MatMul" or mixing is None or mixing.op != "MatMul":
        return None
    if mixing.inputs[0] is not softmax.outputs[0]:
        return None
    operands = [
        _head(scores.inputs[0], [0, 2, 1, 3]),
        _head(scores.inputs[1], [0, 2, 3, 1]),
        _head(mixing.inputs[1], [0, 2, 1, 3]),
    ]
    split = producer(operands[0][0].inputs[0]) if operands[0] else None
    if split is None or split.op != "Split" or len(split.outputs) != 3 or split.attrs.get("axis", 0) != -1:
        return None
    for operand, part in zip(operands, split.outputs, strict=True):
        if not operand or operand[0].inputs[0] is not part:
            return None
    target = ints_of(operands[0][0].inputs[1]) or []
    joining = _chain(mixing.outputs[0], ("Transpose", "Reshape"), graph)
    if len(target) != 4 or not joining or _perm(joining[0]) != [0, 2, 1, 3]:
        return None
    if ints_of(joining[1].inputs[1]) != [0, 0, target[2] * target[3]]:
        return None
    return AttentionMatch(
        qkv=split.inputs[0],
        split=split,
        heads=tuple(node for operand in operands for node in operand),
        scores=scores,
        scaling=scaling,
        bias_nodes=bias_nodes,
        softmax=softmax,
        mixing=mixing,
        joining=joining,
        num_heads=target[2],
        head_dim=target[3],
        scale=float(scalar_of(scaling.inputs[1]) or 0.0),
        bias=bias,
        output=joining[1].outputs[0],
    )


def _bias(tensor: gs.Tensor) -> tuple[tuple[gs.Node, ...], gs.Constant | None]:
    """The nodes that add a bias to the scores, first node first, and the bias."""
    node = producer(tensor)
    if node is not None and node.op == "Add" and isinstance(node.inputs[1], gs.Constant):
        return (node,), node.inputs[1]
    inner = producer(node.inputs[0]) if node is not None and node.op == "Reshape" else None
    first = producer(inner.inputs[0]) if inner is not None and inner.op == "Add" else None
    if node is not None and inner is not None and first is not None and first.op == "Reshape":
        bias = inner.inputs[1]
        if isinstance(bias, gs.Constant) and array_of(bias) is not None:
            return (first, inner, node), bias
    return (), None


def _head(tensor: gs.Tensor, perm: Sequence[int]) -> tuple[gs.Node, ...]:
    """The Reshape and the Transpose that make an operand of heads, or nothing."""
    transpose = producer(tensor)
    if transpose is None or transpose.op != "Transpose" or _perm(transpose) != list(perm):
        return ()
    reshape = producer(transpose.inputs[0])
    if reshape is None or reshape.op != "Reshape" or (ints_of(reshape.inputs[1]) or [1])[:2] != [0, 0]:
        return ()
    return reshape, transpose


def _chain(tensor: gs.Tensor, ops: Sequence[str], graph: gs.Graph) -> tuple[gs.Node, ...]:
    """The readers of a tensor with these operators, one after the other, or nothing."""
    nodes: list[gs.Node] = []
    for op in ops:
        node = single_consumer(tensor, graph)
        if node is None or node.op != op:
            return ()
        nodes.append(node)
        tensor = node.outputs[0]
    return tuple(nodes)


def _perm(node: gs.Node) -> list[int]:
    return [int(axis) for axis in node.attrs.get("perm", [])]
