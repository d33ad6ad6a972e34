"""Lower a quantized attention block onto the fused operator of the runtime."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_constant, scalar_of
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.group_nodes import GroupQuantizer, find_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.levels import uniform_levels


class LowerAttention(Pass):
    """Replaces the readable nodes of an attention block by one `GroupAttention`.

    **Before**: the canonical spelling of attention (`Split`, three `Reshape` and `Transpose`, `MatMul`, `Mul`,
    optionally a constant bias, `Softmax`, `MatMul`, `Transpose`, `Reshape`) with group quantizers on q, k, p and v.
      1. No bias.
      2. A constant bias added to the scores, with or without reshapes to windows around it.

    **After**
      1. `GroupAttention(QKV, q_groups, k_groups, v_groups, p_groups, levels)`.
      2. `GroupAttentionBias(..., bias)` with a bias of rank 4.

    **Leaves alone**
      3. A block that is not quantized, or not spelled like this.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
            reason = self._lower(edit, softmax)
            if reason:
                self.refuse(softmax, reason)  # 3
            else:
                self.applied += 1
        return self.applied > 0

    def _lower(self, edit: Editor, softmax: gs.Node) -> str | None:
        probability_sort = _reader(softmax.outputs[0], "GroupSort")
        context = _context_product(probability_sort)
        if context is None:
            return "its output does not go through a group quantizer into a product"
        p, v = (find_group_quantizer(tensor) for tensor in context.inputs)
        scores = _scores(softmax)
        if scores is None or p is None or v is None:
            return "no quantized product with a scale in front of it"
        product, scale, bias = scores
        q, k = (find_group_quantizer(tensor) for tensor in product.inputs)
        packed = None if q is None or k is None else _packed_source(q, k, v)
        merged = _reader(context.outputs[0], "Transpose")
        joined = _reader(merged.outputs[0], "Reshape") if merged is not None else None
        if q is None or k is None or packed is None or joined is None:
            return "queries, keys and values are not read from one packed tensor"
        qkv, heads = packed
        name = softmax.name.rsplit("/", 1)[0]  # the block: the fused node takes its name
        levels = p.levels or edit.constant(f"{name}.levels", uniform_levels(p.bits))
        inputs = [qkv, q.groups, k.groups, v.groups, p.groups, levels]
        if bias is not None:
            inputs.append(edit.constant(f"{name}.bias", bias))
        lowered = edit.add(
            "GroupAttention" if bias is None else "GroupAttentionBias",
            inputs,
            name,
            {"num_heads": heads, "scale": float(scale), "bits": q.bits},
            domain=DOMAIN,
        )
        lowered.shape = joined.outputs[0].shape
        edit.replace(joined.outputs[0], lowered)
        return None


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


def _packed_source(q: GroupQuantizer, k: GroupQuantizer, v: GroupQuantizer) -> tuple[gs.Tensor, int] | None:
    """The tensor that q, k and v are split from, and the number of heads."""
    splits, heads = [], 0
    for item in (q, k, v):
        transpose = item.x.inputs[0] if item.x.inputs else None
        reshape = transpose.inputs[0].inputs[0] if transpose is not None and transpose.inputs[0].inputs else None
        if transpose is None or reshape is None or (transpose.op, reshape.op) != ("Transpose", "Reshape"):
            return None
        heads = int(reshape.inputs[1].values[2])
        source = reshape.inputs[0]
        splits.append((source.inputs[0], source) if source.inputs else None)
    if None in splits or any(item is None or item[0] is not splits[0][0] for item in splits):  # type: ignore[index]
        return None
    split = splits[0][0]  # type: ignore[index]
    in_order = all(output is item[1] for output, item in zip(split.outputs, splits, strict=True))  # type: ignore[index]
    return (split.inputs[0], heads) if split.op == "Split" and in_order else None
