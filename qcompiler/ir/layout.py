"""Layout tracing: where does each element of a tensor come from, whatever operators moved it there.

An index tensor (0, 1, 2, ...) is pushed through a chain of Reshape, Transpose, Slice, Split, Gather, Squeeze, Unsqueeze
and Flatten; the result says for every element which source element it is. No spelling of the chain needs to be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable, producer, scalar_of, single_consumer
from qcompiler.ir.dims import Shape, at_batch
from qcompiler.ir.evaluate import LAYOUT
from qcompiler.ir.shapes import ShapeInfo

# Two instances show whether the batch axis stays outermost; more would only cost time.
_BATCH = 2


@dataclass(frozen=True)
class Trace:
    """A chain of layout operators between a source and a tensor.

    Attributes:
        source: the tensor at the top of the chain.
        steps: the operators with the output that the chain goes through, source first.
        scale: the product of the scalar factors along the chain (1.0 without any).
    """

    source: gs.Tensor
    steps: tuple[tuple[gs.Node, gs.Tensor], ...]
    scale: float


def is_layout(node: gs.Node | None) -> bool:
    """Whether a node only moves the elements of its first input, in a way known from constants."""
    if node is None or (node.op not in LAYOUT and node.op != "Split"):
        return False
    return (
        bool(node.inputs)
        and is_variable(node.inputs[0])
        and all(array_of(tensor) is not None for tensor in node.inputs[1:])
    )


def scalar_factor(node: gs.Node | None) -> tuple[gs.Tensor, float] | None:
    """`(x, factor)` for a node that multiplies a tensor by a scalar or divides it by one, else None."""
    if node is None or node.op not in ("Mul", "Div"):
        return None
    left, right = node.inputs
    factor = scalar_of(right)
    if factor is not None and is_variable(left):
        return left, factor if node.op == "Mul" else 1.0 / factor
    factor = scalar_of(left)
    if factor is not None and node.op == "Mul" and is_variable(right):
        return right, factor
    return None


def trace_up(tensor: gs.Tensor, through_scale: bool = False) -> Trace:
    """Walks up from a tensor through layout operators, and scalar factors if asked to."""
    steps: list[tuple[gs.Node, gs.Tensor]] = []
    scale = 1.0
    while True:
        node = producer(tensor)
        factor = scalar_factor(node) if through_scale else None
        if node is not None and factor is not None:
            tensor, scale = factor[0], scale * factor[1]
        elif node is not None and is_layout(node):
            steps.append((node, tensor))
            tensor = node.inputs[0]
        else:
            return Trace(tensor, tuple(reversed(steps)), scale)


def push(indices: np.ndarray, node: gs.Node, output: gs.Tensor) -> np.ndarray:
    """The index tensor of a layout operator's output, from that of its first input."""
    constants = [np.asarray(tensor.values) for tensor in node.inputs[1:]]
    if node.op != "Split":
        return np.asarray(LAYOUT[node.op]([indices, *constants], node.attrs))
    axis = int(node.attrs.get("axis", 0))
    count = len(node.outputs)
    parts = (
        np.split(indices, np.cumsum(constants[0])[:-1], axis=axis)
        if constants
        else np.array_split(indices, count, axis=axis)
    )
    return parts[next(index for index, tensor in enumerate(node.outputs) if tensor is output)]


def index_map(trace: Trace, info: ShapeInfo) -> np.ndarray | None:
    """For every element of the traced tensor, the flat position in the trace's source of the element it shows.

    Computed for a batch of two where the batch is unknown.

    Returns:
        An integer array of the shape of the traced tensor, or None when the source's shape is unknown.
    """
    shape = info.shape(trace.source)
    if shape is None:
        return None
    indices = positions(shape)
    for node, output in trace.steps:
        indices = push(indices, node, output)
    return indices


def positions(shape: Shape) -> np.ndarray:
    """An index tensor of a shape, with a batch of two where the batch is unknown."""
    dims = at_batch(shape, _BATCH)
    return np.arange(int(np.prod(dims, dtype=np.int64)), dtype=np.int32).reshape(dims)


def follow(tensor: gs.Tensor, indices: np.ndarray, graph: gs.Graph) -> Iterator[tuple[gs.Tensor, np.ndarray]]:
    """Walks down through layout operators as long as each tensor has one reader; yields tensors and index tensors."""
    yield tensor, indices
    while True:
        node = single_consumer(tensor, graph)
        if node is None or not is_layout(node) or len(node.outputs) != 1 or node.inputs[0] is not tensor:
            return
        indices = push(indices, node, node.outputs[0])
        tensor = node.outputs[0]
        yield tensor, indices
