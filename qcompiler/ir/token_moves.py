"""Tokens in another order: windows, shifts, and back, whatever operators an exporter spelled them with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable, producer
from qcompiler.ir.dims import Batch, Shape, at_batch
from qcompiler.ir.layout import is_layout, positions, push
from qcompiler.ir.shapes import ShapeInfo

# What costs nothing at run time.
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


@dataclass(frozen=True)
class TokenMove:
    """Operators that bring the tokens of each image, as whole rows of channels, into another order.

    Attributes:
        source: the tensor [..., C] that they read.
        nodes: the operators, in topological order.
        order: int64 [N], for each token of an image's result its place among the tokens of the source.
        flat: shape [batch, N, C] of the source with all tokens of an image on one axis.
    """

    source: gs.Variable
    nodes: tuple[gs.Node, ...]
    order: np.ndarray
    flat: Shape

    @property
    def copies(self) -> int:
        """How many of the operators copy memory."""
        return sum(node.op not in _VIEWS for node in self.nodes)

    @property
    def keeps_order(self) -> bool:
        """Whether every token stays where it is."""
        return bool(np.array_equal(self.order, np.arange(self.order.size)))


def token_move(tensor: gs.Tensor, graph: gs.Graph, info: ShapeInfo) -> TokenMove | None:
    """What moved the tokens of a tensor [..., C] to where they are.

    Returns:
        The operators between the tensor and the one source of all its tokens; None where there are none, where
        something else reads between them, or where they do more than to permute the tokens within each image.
    """
    found = _operators_above(tensor, graph)
    if found is None:
        return None
    source, nodes = found
    shape, after = info.shape(source), info.shape(tensor)
    if shape is None or after is None or shape[-1] != after[-1] or isinstance(shape[-1], Batch):
        return None
    images = 2 if isinstance(shape[0], Batch) else info.images
    order = _order(_pushed(source, nodes, tensor, shape), shape[-1], images, int(np.prod(at_batch(shape, 2))))
    if order is None:
        return None
    batch = Batch(1) if isinstance(shape[0], Batch) else images
    return TokenMove(source, nodes, order, (batch, order.size, shape[-1]))


def _operators_above(tensor: gs.Tensor, graph: gs.Graph) -> tuple[gs.Variable, tuple[gs.Node, ...]] | None:
    """The tensor that all of a tensor's elements come from, and what moves them; None without both."""
    nodes: dict[int, gs.Node] = {}
    sources: dict[int, gs.Variable] = {}
    waiting = [tensor]
    while waiting:
        node = producer(current := waiting.pop())
        if node is None or not _moves(node):
            if not isinstance(current, gs.Variable):
                return None
            sources[id(current)] = current
        elif id(node) not in nodes:
            nodes[id(node)] = node
            waiting += node.inputs if node.op == "Concat" else node.inputs[:1]
    if not nodes or len(sources) != 1:
        return None
    inner = [output for node in nodes.values() for output in node.outputs if output is not tensor]
    if any(id(reader) not in nodes for output in inner for reader in output.outputs):
        return None
    if any(output is result for output in inner for result in graph.outputs):
        return None
    return next(iter(sources.values())), tuple(node for node in graph.nodes if id(node) in nodes)


def _moves(node: gs.Node) -> bool:
    if node.op == "Concat":
        return all(is_variable(tensor) for tensor in node.inputs)
    return is_layout(node) and all(array_of(tensor) is not None for tensor in node.inputs[1:])


def _pushed(source: gs.Tensor, nodes: tuple[gs.Node, ...], tensor: gs.Tensor, shape: Shape) -> np.ndarray:
    """For every element of the tensor, its flat position in the source."""
    known = {source.name: positions(shape)}
    for node in nodes:
        for output in node.outputs:
            if node.op == "Concat":
                parts = [known[item.name] for item in node.inputs]
                known[output.name] = np.concatenate(parts, axis=int(node.attrs["axis"]))
            else:
                known[output.name] = push(known[node.inputs[0].name], node, output)
    return known[tensor.name]


def _order(indices: np.ndarray, channels: int, images: int, size: int) -> np.ndarray | None:
    """The order of an image's tokens, the same for all images; None where rows are cut, repeated or left out."""
    if indices.size != size or size % (channels * images):
        return None
    rows = indices.reshape(-1, channels)
    tokens = rows[:, 0] // channels
    if not np.array_equal(rows, tokens[:, None] * channels + np.arange(channels)):
        return None
    order = tokens.reshape(images, -1).astype(np.int64)
    each = order.shape[1]
    if not np.array_equal(order, order[:1] + each * np.arange(images)[:, None]):
        return None
    return order[0] if np.array_equal(np.sort(order[0]), np.arange(each)) else None
