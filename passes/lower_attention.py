"""Lower a quantized attention block onto the fused operator of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.block_nodes import find_block_quantizer
from qcompiler.ir.constants import array_of, is_constant, producer, scalar_of
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.group_nodes import find_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.levels import uniform_levels


class LowerAttention(Pass):
    """Replaces the readable nodes of an attention block by one `GroupAttention` or `BlockAttention`.

    **Before**: the canonical spelling of attention (`Split`, three `Reshape` and `Transpose`, `MatMul`, `Mul`,
    optionally a constant bias, `Softmax`, `MatMul`, `Transpose`, `Reshape`) with a group quantizer on p and
      1. group quantizers on q, k and v, or
      2. quantizers in blocks of each token on q, k and v, where k is transposed behind its quantizer;
      3. where it is there, a constant bias added to the scores, with or without reshapes to windows around it.

    **After**
      1. `GroupAttention(QKV, q_groups, k_groups, v_groups, p_groups, levels)`.
      2. `BlockAttention(QKV, p_groups, levels)`.
      3. `GroupAttentionBias(..., bias)` or `BlockAttentionBias(..., bias)` with a bias of rank 4.

    **Leaves alone**
      4. A block that is not quantized, or not spelled like this.
      5. Groups of different widths for q, k and v: the operator has one.
      6. Blocks that differ for q, k and v in more than the width of v, or whose channels are rotated.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
            reason = self._lower(edit, softmax)
            if reason:
                self.refuse(softmax, reason)
            else:
                self.applied += 1
        return self.applied > 0

    def _lower(self, edit: Editor, softmax: gs.Node) -> str | None:
        probability_sort = _reader(softmax.outputs[0], "GroupSort")
        context = _context_product(probability_sort)
        if context is None:
            return "its output does not go through a group quantizer into a product"  # 4
        p = find_group_quantizer(context.inputs[0])
        scores = _scores(softmax)
        if scores is None or p is None:
            return "no quantized product with a scale in front of it"  # 4
        product, scale, bias = scores
        operands = (*product.inputs, context.inputs[1])
        found = _in_groups(*operands) or _in_blocks(*operands)
        if found is None:
            return "queries, keys and values do not go through quantizers of one kind"  # 4
        if isinstance(found, str):
            return found
        packed = _packed_source(found)
        merged = _reader(context.outputs[0], "Transpose")
        joined = _reader(merged.outputs[0], "Reshape") if merged is not None else None
        if packed is None or joined is None:
            return "queries, keys and values are not read from one packed tensor"  # 4
        qkv, heads = packed
        name = softmax.name.rsplit("/", 1)[0]  # the block: the fused node takes its name
        levels = p.levels or edit.constant(f"{name}.levels", uniform_levels(p.bits))
        inputs = [qkv, *found.tables, p.groups, levels]
        if bias is not None:
            inputs.append(edit.constant(f"{name}.bias", bias))  # 3
        lowered = edit.add(
            found.op if bias is None else f"{found.op}Bias",
            inputs,
            name,
            {"num_heads": heads, "scale": float(scale), **found.attributes},
            domain=DOMAIN,
        )
        lowered.shape = joined.outputs[0].shape
        edit.replace(joined.outputs[0], lowered)
        return None


@dataclass(frozen=True)
class _Operands:
    """What the quantizers of q, k and v make of the block.

    Attributes:
        op: The operator.
        sources: What is quantized: q, k and v.
        perms: How each of them is transposed from [B, N, H, D].
        tables: Inputs of the operator that belong to them.
        attributes: Its attributes that belong to them.
    """

    op: str
    sources: Sequence[gs.Tensor]
    perms: Sequence[Sequence[int]]
    tables: Sequence[gs.Tensor]
    attributes: dict[str, Any]


_TOKENS, _TRANSPOSED = (0, 2, 1, 3), (0, 2, 3, 1)


def _in_groups(query: gs.Tensor, key: gs.Tensor, value: gs.Tensor) -> _Operands | str | None:  # 1
    q, k, v = (find_group_quantizer(tensor) for tensor in (query, key, value))
    if q is None or k is None or v is None:
        return None
    if not q.bits == k.bits == v.bits:  # 5
        return f"queries, keys and values have {q.bits}, {k.bits} and {v.bits} bits"
    perms, tables = (_TOKENS, _TRANSPOSED, _TOKENS), (q.groups, k.groups, v.groups)
    return _Operands("GroupAttention", (q.x, k.x, v.x), perms, tables, {"bits": q.bits})


def _in_blocks(query: gs.Tensor, key: gs.Tensor, value: gs.Tensor) -> _Operands | str | None:  # 2
    transpose = producer(key)
    if transpose is None or not _is_transpose(transpose, (0, 1, 3, 2)):
        return None
    q, k = (find_block_quantizer(tensor) for tensor in (query, transpose.inputs[0]))
    v = find_block_quantizer(value, shared=True)
    if q is None or k is None or v is None:
        return None
    parts = q.block, q.clip, q.slack
    if q.attributes != k.attributes or parts != (v.block, v.clip, v.slack):  # 6
        return f"queries, keys and values differ in blocks: {q.attributes}, {k.attributes}, {v.attributes}"
    if not q.rotate == v.rotate == 1:  # 6
        return f"channels are rotated in sets of {q.rotate} and {v.rotate}"
    attributes = {"qk_bits": q.bits, "v_bits": v.bits, "block": q.block, "clip": q.clip, "slack": q.slack}
    return _Operands("BlockAttention", (q.x, k.x, v.x), (_TOKENS,) * 3, (), attributes)


def _is_transpose(node: gs.Node, perm: Sequence[int]) -> bool:
    return node.op == "Transpose" and tuple(node.attrs.get("perm", ())) == tuple(perm)


def _reader(tensor: gs.Tensor, op: str) -> gs.Node | None:
    return next((node for node in tensor.outputs if node.op == op), None)


def _context_product(sort: gs.Node | None) -> gs.Node | None:
    """The product of probabilities and values behind the probabilities' quantizer."""
    if sort is None:
        return None
    dequantize = _reader(sort.outputs[0], "GroupDequantizeLinear")
    return None if dequantize is None else _reader(dequantize.outputs[0], "MatMul")


def _scores(softmax: gs.Node) -> tuple[gs.Node, float, np.ndarray | None] | None:
    """The product of queries and keys, the scale of the scores, and the bias as [windows, heads or 1, N, N]."""
    tensor, bias, scale = softmax.inputs[0], None, None
    while tensor.inputs:
        node = tensor.inputs[0]
        if node.op == "MatMul":
            return None if scale is None else (node, scale, bias)
        if node.op == "Add" and is_constant(node.inputs[1]) and bias is None and scale is None:
            bias = _rank_four(array_of(node.inputs[1]))
        elif node.op == "Mul" and scale is None:
            scale = scalar_of(node.inputs[1])
            if scale is None:
                return None
        elif node.op != "Reshape":
            return None
        tensor = node.inputs[0]
    return None


def _rank_four(bias: np.ndarray | None) -> np.ndarray | None:
    if bias is None:
        return None
    return np.ascontiguousarray(bias.reshape((1,) * (4 - bias.ndim) + bias.shape[-4:]), dtype=np.float32)


def _packed_source(operands: _Operands) -> tuple[gs.Tensor, int] | None:
    """The tensor that q, k and v are split from, and the number of heads."""
    splits, heads = [], 0
    for x, perm in zip(operands.sources, operands.perms, strict=True):
        transpose = producer(x)
        if transpose is None or not _is_transpose(transpose, perm):
            return None
        reshape = producer(transpose.inputs[0])
        if reshape is None or reshape.op != "Reshape":
            return None
        heads = int(reshape.inputs[1].values[2])
        source = reshape.inputs[0]
        splits.append((source.inputs[0], source) if source.inputs else None)
    if None in splits or any(item is None or item[0] is not splits[0][0] for item in splits):  # type: ignore[index]
        return None
    split = splits[0][0]  # type: ignore[index]
    in_order = all(output is item[1] for output, item in zip(split.outputs, splits, strict=True))  # type: ignore[index]
    return (split.inputs[0], heads) if split.op == "Split" and in_order else None
