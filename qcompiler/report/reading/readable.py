"""Layers that are a float product between explicit quantizers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from qcompiler.quant.groups import GroupTable
from qcompiler.report.reading.fused import GROUP_COLUMNS, ROW_AXIS
from qcompiler.report.reading.layers import FoundLinear, FoundProduct, Quantizer
from qcompiler.report.reading.weights import readable_weight
from qcompiler.report.reading.wiring import DOMAIN, Wiring, whole_numbers

QUANTIZERS = ("GroupQuantizeLinear", "BlockQuantizeLinear")


def readable_layer(node: onnx.NodeProto, wiring: Wiring) -> FoundLinear | FoundProduct | None:
    """The linear layer or the product of two activations that ``node`` is, or None."""
    if node.domain != "" or node.op_type != "MatMul":
        return None
    left = _quantizer(node.input[0], wiring)
    if left is None:
        return None
    weight = readable_weight(wiring, node.input[1])
    if weight is not None:
        return FoundLinear(node, left.source, left, weight)
    turned = wiring.producer(node.input[1], "Transpose")
    right = _quantizer(node.input[1] if turned is None else turned.input[0], wiring)
    return None if right is None else FoundProduct(node, left, right, transposed=turned is not None)


def _quantizer(tensor: str, wiring: Wiring) -> Quantizer | None:
    """The quantizer that ``tensor`` is read back from."""
    blocks = _block_quantizer(tensor, wiring)
    if blocks is not None:
        return blocks
    rescale = wiring.producer(tensor, "Mul")  # of normalised rows
    if rescale is None:
        return _group_quantizer(tensor, wiring)
    for name in rescale.input:
        found = _group_quantizer(name, wiring)
        norm = None if found is None else wiring.producer(found.source, "RowNorm")
        if found is not None and norm is not None:
            return replace(found, source=norm.input[0], normalize=True)
    return None


def _block_quantizer(tensor: str, wiring: Wiring) -> Quantizer | None:
    read_back = wiring.producer(tensor, "BlockDequantizeLinear")
    quantize = None if read_back is None else wiring.producer(read_back.input[0], "BlockQuantizeLinear")
    found = None if quantize is None else whole_numbers(quantize, "bits", "block", "rotate")
    if quantize is None or quantize.domain != DOMAIN or found is None:
        return None
    bits, block, rotate = found
    return Quantizer(quantize.input[0], bits, "blocks", block=block, rotate=rotate)


def _group_quantizer(tensor: str, wiring: Wiring) -> Quantizer | None:
    read_back = wiring.producer(tensor, "GroupDequantizeLinear")
    if read_back is None:
        return None
    sort = wiring.producer(read_back.input[1], "GroupSort")
    codes, levels = read_back.input[0], 0
    gather = wiring.producer(codes, "Gather")  # a codebook: the codes pick operands from its levels
    if gather is not None:
        cast, book = wiring.producer(gather.input[1], "Cast"), wiring.array(gather.input[0], 1)
        if cast is None or book is None:
            return None
        codes, levels = cast.input[0], len(np.unique(book))
    quantize = wiring.producer(codes, "GroupQuantizeLinear")
    table = wiring.array(read_back.input[2], 2)
    if sort is None or quantize is None or table is None or table.shape[1] != GROUP_COLUMNS:
        return None
    axis, bits = whole_numbers(sort, "axis"), whole_numbers(quantize, "bits")
    if axis is None or bits is None:
        return None
    exact = GroupTable.from_array(table, *axis, *bits).exact
    scheme = "rows" if axis[0] == ROW_AXIS else "segments" if exact else "channels"
    return Quantizer(quantize.input[0], bits[0], scheme, len(table), levels=levels, codebook=levels > 0)
