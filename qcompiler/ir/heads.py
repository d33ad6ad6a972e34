"""Where the operands of an attention come from: which columns of which tensor of tokens each head reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import producer
from qcompiler.ir.dims import Dim, at_batch
from qcompiler.ir.layout import Trace, index_map, scalar_factor, trace_up
from qcompiler.ir.shapes import ShapeInfo


@dataclass(frozen=True)
class Operand:
    """Queries, keys or values.

    Attributes:
        tensor: the operand of the product, before scalar factors.
        transposed: whether the operand is [..., D, N] instead of [..., N, D].
        source: the tensor whose rows are the tokens; the operand itself when there is none.
        columns: [heads, width], the column of `source` that each channel of each head reads; None when the operand is
            not made of rows of a tensor in the order of the tokens.
        scale: product of the scalar factors between source and operand.
    """

    tensor: gs.Tensor
    transposed: bool
    source: gs.Tensor
    columns: np.ndarray | None
    scale: float


def read_operand(
    tensor: gs.Tensor, transposed: bool, scaled: bool, instances: Dim, heads: int, info: ShapeInfo
) -> Operand:
    """Finds out how an operand is made.

    Args:
        tensor: the operand.
        transposed: whether its last two axes are [D, N].
        scaled: whether scalar factors on the way may be collected.
        instances: number of instances (images or windows).
        heads: number of heads.
        info: shapes of the graph.
    """
    trace = trace_up(tensor, through_scale=scaled)
    scale, bare = 1.0, tensor
    while scaled and (factor := scalar_factor(producer(bare))) is not None:
        bare, scale = factor[0], scale * factor[1]
    opaque = Operand(bare, transposed, bare, None, scale)
    indices = index_map(trace, info)
    shape = info.shape(trace.source)
    if indices is None or shape is None or len(shape) < 2 or not isinstance(shape[-1], int):
        return opaque
    count = at_batch((instances,), 2)[0]
    if indices.size % (count * heads) or indices.ndim < 3:
        return opaque
    indices = indices.reshape(count, heads, *indices.shape[-2:])
    if transposed:
        indices = indices.swapaxes(-1, -2)
    columns = indices[0, :, 0, :]
    tokens = indices.shape[2]
    rows = np.arange(count * tokens).reshape(count, 1, tokens, 1) * shape[-1]
    if columns.max() >= shape[-1] or not np.array_equal(indices, rows + columns[None, :, None, :]):
        return opaque
    return Operand(bare, transposed, trace.source, columns, trace.scale)


def count_heads(trace: Trace, info: ShapeInfo) -> int | None:
    """The number of heads of an operand [instances * heads, N, D], from the columns that its matrices read."""
    indices = index_map(trace, info)
    shape = info.shape(trace.source)
    if indices is None or shape is None or not isinstance(shape[-1], int):
        return None
    starts = indices[:, 0, 0] % shape[-1]
    again = np.flatnonzero(starts[1:] == starts[0])
    return int(again[0]) + 1 if again.size else len(starts)
