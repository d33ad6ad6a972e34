"""The three readable nodes of one group quantizer, written and found again in one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN


def add_group_quantizer(
    edit: Editor,
    x: gs.Tensor,
    table: NDArray[np.float32],
    bits: int,
    axis: int,
    name: str,
    levels: gs.Constant | None = None,
) -> gs.Variable:
    """Append GroupSort, GroupQuantizeLinear and GroupDequantizeLinear.

    Args:
        edit: Editor of the graph.
        x: Tensor to quantize.
        table: Its groups, float32 ``[groups, 6]``.
        bits: Width of the codes.
        axis: Axis of the items in ``x``.
        name: Prefix of the new names.
        levels: Operand of each code, gathered between the two; None for the codes themselves.

    Returns:
        The tensor read back.
    """
    groups = edit.constant(f"{name}.groups", table)
    index = edit.add("GroupSort", [x, groups], f"{name}/GroupSort", {"axis": axis}, np.int64, DOMAIN)
    attributes = {"bits": bits}
    codes = edit.add("GroupQuantizeLinear", [x, index, groups], f"{name}/QuantizeLinear", attributes, np.uint8, DOMAIN)
    if levels is not None:
        indices = edit.add("Cast", [codes], f"{name}/code_index", {"to": int(onnx.TensorProto.INT64)}, np.int64)
        codes = edit.add("Gather", [levels, indices], f"{name}/levels", {"axis": 0}, np.uint8)
    return edit.add("GroupDequantizeLinear", [codes, index, groups], f"{name}/DequantizeLinear", domain=DOMAIN)


@dataclass(frozen=True)
class GroupQuantizer:
    """One group quantizer found in a graph: its input, its table, and how items lie in the input."""

    x: gs.Tensor
    groups: gs.Constant
    axis: int
    bits: int
    levels: gs.Constant | None


def find_group_quantizer(read_back: gs.Tensor) -> GroupQuantizer | None:
    """The group quantizer whose result is ``read_back``, or None."""
    dequantize = _producer(read_back, "GroupDequantizeLinear")
    if dequantize is None:
        return None
    codes, levels = dequantize.inputs[0], None
    gather = _producer(codes, "Gather")
    if gather is not None:
        levels = gather.inputs[0]
        cast = _producer(gather.inputs[1], "Cast")
        if cast is None:
            return None
        codes = cast.inputs[0]
    quantize = _producer(codes, "GroupQuantizeLinear")
    sort = _producer(dequantize.inputs[1], "GroupSort")
    if quantize is None or sort is None:
        return None
    return GroupQuantizer(quantize.inputs[0], sort.inputs[1], sort.attrs["axis"], quantize.attrs["bits"], levels)


def _producer(tensor: gs.Tensor, op: str) -> gs.Node | None:
    found = bool(tensor.inputs) and tensor.inputs[0].op == op
    return tensor.inputs[0] if found else None
