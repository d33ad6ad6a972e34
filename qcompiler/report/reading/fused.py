"""Layers that are one fused operator of the runtime."""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.report.reading.layers import FoundAttention, FoundLinear, Quantizer
from qcompiler.report.reading.weights import fused_weight
from qcompiler.report.reading.wiring import DOMAIN, Wiring, whole_numbers

GROUP_COLUMNS = 6
ROW_AXIS = -2


def fused_linear(node: onnx.NodeProto, wiring: Wiring) -> FoundLinear | None:
    """The linear layer that ``node`` is, or None."""
    in_blocks = "BlockLinear" in node.op_type
    if node.domain != DOMAIN or not (in_blocks or "GroupLinear" in node.op_type):
        return None
    # In front of the weight stands what the operator reads first, behind it its scales, its blocks and the groups.
    first = 3 if node.op_type.startswith("LayerNorm") else 1
    if len(node.input) < first + 4:
        return None
    weight = fused_weight(wiring, *node.input[first : first + 3])
    quantizer = _blocks(node, "bits") if in_blocks else _groups(node, wiring, node.input[first + 3])
    if weight is None or quantizer is None:
        return None
    return FoundLinear(node, node.input[0], quantizer, weight)


def fused_attention(node: onnx.NodeProto, wiring: Wiring) -> FoundAttention | None:
    """The attention block that ``node`` is, or None."""
    in_blocks = node.op_type.startswith("BlockAttention")
    if node.domain != DOMAIN or not (in_blocks or node.op_type.startswith("GroupAttention")):
        return None
    tables, heads = 1 if in_blocks else 4, whole_numbers(node, "num_heads")
    if len(node.input) < tables + 2 or heads is None:
        return None
    counts = [len(table) for name in node.input[1 : tables + 1] if (table := wiring.array(name, 2)) is not None]
    levels = wiring.array(node.input[tables + 1], 1)
    operands = _in_blocks(node) if in_blocks else _in_groups(node, counts)
    if operands is None or levels is None or len(counts) < tables:
        return None
    codebook = not np.array_equal(levels, np.arange(len(levels)))
    operand_count = len(np.unique(levels))
    probability = Quantizer("", operands[-1].bits, "rows", counts[-1], levels=operand_count, codebook=codebook)
    return FoundAttention(node, node.input[0], heads[0], *operands, probability)


def _in_blocks(node: onnx.NodeProto) -> tuple[Quantizer, Quantizer, Quantizer] | None:
    scores, value = _blocks(node, "qk_bits"), _blocks(node, "v_bits")
    return None if scores is None or value is None else (scores, scores, value)


def _in_groups(node: onnx.NodeProto, counts: list[int]) -> tuple[Quantizer, Quantizer, Quantizer] | None:
    bits = whole_numbers(node, "bits")
    if bits is None or len(counts) < 3:
        return None
    query, key = (Quantizer("", bits[0], "rows", count) for count in counts[:2])
    return query, key, Quantizer("", bits[0], "channels", counts[2])


def _blocks(node: onnx.NodeProto, width: str) -> Quantizer | None:
    found = whole_numbers(node, width, "block")
    # The operators of attention rotate nothing and have no such attribute.
    rotate = whole_numbers(node, "rotate") or (1,)
    return None if found is None else Quantizer("", found[0], "blocks", block=found[1], rotate=rotate[0])


def _groups(node: onnx.NodeProto, wiring: Wiring, table: str) -> Quantizer | None:
    groups, found = wiring.array(table, 2), whole_numbers(node, "bits", "axis", "segments", "normalize")
    if groups is None or groups.shape[1] != GROUP_COLUMNS or found is None:
        return None
    bits, axis, segments, normalize = found
    scheme = "rows" if axis == ROW_AXIS else "segments" if segments else "channels"
    return Quantizer("", bits, scheme, len(groups), bool(normalize))
