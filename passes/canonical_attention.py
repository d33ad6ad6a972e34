"""Writes every self-attention in one spelling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.attention import match_attention
from qcompiler.ir.dims import Batch, Dim, Shape, at_batch, collapse
from qcompiler.ir.editing import Editor
from qcompiler.ir.heads import Operand, count_heads, read_operand
from qcompiler.ir.layout import trace_up
from qcompiler.ir.linear import linear_of
from qcompiler.ir.passes import Pass
from qcompiler.ir.score_bias import combine
from qcompiler.ir.scores import Scores, find_scores
from qcompiler.ir.shapes import ShapeInfo, infer
from qcompiler.ir.tokens import replace_by_tokens


@dataclass(frozen=True)
class _Sizes:
    """Sizes of an attention: instances, tokens, heads, channels per head."""

    instances: Dim
    tokens: int
    heads: int
    width: int


class CanonicalAttention(Pass):
    """Writes every self-attention in one spelling.

    **Before**: `Softmax(scores)` over the last axis, multiplied with values, where the scores are a product of two
    computed tensors.
      1. q, k and v reach the products through any chain of Reshape, Transpose, Slice, Split, Gather, Squeeze and
         Unsqueeze from one packed tensor [B, N, 3 H D].
      2. The same from a linear layer whose columns stand in another order, or from three tensors.
      3. Scalar factors on q, on k and between product and softmax; constants added there (position bias, shift mask of
         windows), with reshapes that unfold the windows.
      7. A factor [heads, 1, 1] between product and softmax (cosine attention, channel attention).
      4. An operand that is not made of a tensor [B, N, ...] in this way.

    **After**: QKV [B, N, 3 H D] -> `Split` -> `Reshape` [0, 0, H, D] each -> `Transpose` (q, v: 0 2 1 3; k: 0 2 3 1) ->
    `MatMul` -> `Mul(scale)` -> `Add(bias)` if any -> `Softmax` -> `MatMul` -> `Transpose` -> `Reshape` [0, 0, H D].
      2. QKV is a `Concat` of three tensors; columns are picked in the weights.
      3. One factor; one constant [windows, heads or 1, N, N], with two more Reshapes for several windows.
      4. The operand is transposed to [B, N, H D] and joined by the `Concat`.
      7. The factor is multiplied with the queries, which makes them an operand of case 4.

    **Leaves alone**
      5. Cross-attention (different numbers of queries and keys), scores changed by anything that is not constant,
         probabilities that something else reads, values with another width than queries.
      6. A Softmax that does not stand between two products.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "Softmax"]:
            if match_attention(node, graph) is None:
                self._rewrite(node, info, edit)
        return self.applied > 0

    def _rewrite(self, softmax: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        scores = find_scores(softmax, edit.graph, info)
        if isinstance(scores, str):
            self.refuse(softmax, scores)  # 5, 6
            return
        sizes = _sizes(scores, info)
        if isinstance(sizes, str):
            self.refuse(softmax, sizes)  # 5
            return
        bias = combine(scores.added, sizes.instances, sizes.heads, sizes.tokens)
        if isinstance(bias, str):
            self.refuse(softmax, bias)
            return
        queries = scores.queries
        if scores.per_head is not None:  # 7
            factor = edit.constant(f"{softmax.name}/heads/factor", scores.per_head)
            queries = edit.add("Mul", [queries, factor], f"{softmax.name}/heads/Mul")
            info.shapes[queries.name] = info.shapes[scores.queries.name]
        operands = [
            read_operand(tensor, transposed, scaled, sizes.instances, sizes.heads, info)
            for tensor, transposed, scaled in (
                (queries, False, True),
                (scores.keys, True, True),
                (scores.values, False, False),
            )
        ]
        self._emit(scores, sizes, operands, bias, info, edit)
        self.applied += 1

    def _emit(
        self,
        scores: Scores,
        sizes: _Sizes,
        operands: list[Operand],
        bias: np.ndarray | None,
        info: ShapeInfo,
        edit: Editor,
    ) -> None:
        scope = scores.product.name.rsplit("/", 1)[0] if "/" in scores.product.name else scores.product.name
        qkv = _packed(operands, sizes, info, edit, scope)
        heads, width = sizes.heads, sizes.width
        scale = scores.factor * operands[0].scale * operands[1].scale
        parts = edit.add_many("Split", [qkv], f"{scope}/Split", 3, {"axis": -1, "num_outputs": 3})
        perms = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
        q, k, v = (
            edit.transpose(
                edit.reshape(part, [0, 0, heads, width], f"{scope}/{letter}/Reshape"),
                perm,
                f"{scope}/{letter}/Transpose",
            )
            for part, (letter, perm) in zip(parts, perms.items(), strict=True)
        )
        x = edit.add("MatMul", [q, k], f"{scope}/scores/MatMul")
        x = edit.add("Mul", [x, edit.constant(f"{scope}/scale", np.array(scale, np.float32))], f"{scope}/scores/Mul")
        if bias is not None:
            x = _add_bias(x, bias, sizes, edit, scope)
        x = edit.add("Softmax", [x], f"{scope}/Softmax", {"axis": -1})
        x = edit.transpose(edit.add("MatMul", [x, v], f"{scope}/MatMul"), [0, 2, 1, 3], f"{scope}/Transpose")
        x = edit.reshape(x, [0, 0, heads * width], f"{scope}/Reshape")
        shape: Shape = (sizes.instances, sizes.tokens, heads * width)
        result = scores.mixing.outputs[0]
        replace_by_tokens(result, x, shape, _token_order(sizes), info, edit, f"{scope}/tokens")


def _sizes(scores: Scores, info: ShapeInfo) -> _Sizes | str:
    """The sizes of an attention, or why it is none that can be written canonically."""
    shapes = [info.shape(tensor) for tensor in (scores.queries, scores.keys, scores.values)]
    if any(shape is None for shape in shapes):
        return "the shape of an operand is unknown"
    q, k, v = (shape for shape in shapes if shape is not None)
    if not len(q) == len(k) == len(v) >= 3:
        return f"operands of different ranks ({len(q)}, {len(k)}, {len(v)})"
    if q[-2] != k[-1] or k[-1] != v[-2] or isinstance(q[-2], Batch):
        return f"cross-attention with {q[-2]} queries and {k[-1]} keys"
    if q[-1] != v[-1] or q[:-2] != k[:-2] or q[:-2] != v[:-2] or isinstance(q[-1], Batch):
        return f"queries of shape {q} with values of shape {v}"
    heads = q[-3] if len(q) > 3 else count_heads(trace_up(scores.queries, through_scale=True), info)
    if not isinstance(heads, int):
        return f"the number of heads is unknown in operands of shape {q}"
    instances = collapse(q[:-3]) if len(q) > 3 else q[0] // heads
    return _Sizes(instances, q[-2], heads, q[-1])


def _packed(operands: list[Operand], sizes: _Sizes, info: ShapeInfo, edit: Editor, scope: str) -> gs.Tensor:
    """The tensor [instances, tokens, 3 heads width] of queries, keys and values."""
    span = sizes.heads * sizes.width
    first = operands[0].source
    columns = [operand.columns for operand in operands if operand.columns is not None and operand.source is first]
    shape = info.shape(first)
    if len(columns) == 3 and shape is not None and shape[-1] == 3 * span:
        order = np.concatenate([item.reshape(-1) for item in columns])
        if np.array_equal(order, np.arange(3 * span)):  # 1
            return _as_tokens(first, 3 * span, sizes, info, edit, f"{scope}/qkv")
    selectable = all(operand.columns is not None for operand in operands)
    parts = [
        _tokens_of(operand, selectable, sizes, info, edit, f"{scope}/{letter}")
        for operand, letter in zip(operands, "qkv", strict=True)
    ]
    return edit.add("Concat", parts, f"{scope}/qkv/Concat", {"axis": -1})


def _tokens_of(
    operand: Operand, selectable: bool, sizes: _Sizes, info: ShapeInfo, edit: Editor, name: str
) -> gs.Tensor:
    """One of queries, keys and values as [instances, tokens, heads width].

    `selectable`: whether columns may be picked in the weights, because nothing else will read the whole layer.
    """
    span = sizes.heads * sizes.width
    if operand.columns is not None:
        columns = operand.columns.reshape(-1)
        shape = info.shape(operand.source)
        if shape is not None and shape[-1] == span and np.array_equal(columns, np.arange(span)):
            return _as_tokens(operand.source, span, sizes, info, edit, name)
        linear = linear_of(operand.source, edit.graph) if selectable else None
        if linear is not None:  # 2
            weight = np.asarray(linear.weight.values)[:, columns]
            x = edit.add("MatMul", [linear.source, edit.constant(f"{name}/weight", weight)], f"{name}/MatMul")
            if linear.bias is not None:
                x = edit.add("Add", [x, edit.constant(f"{name}/bias", linear.bias_values()[columns])], f"{name}/Add")
            info.shapes[x.name] = (*(shape or ())[:-1], span)
            return _as_tokens(x, span, sizes, info, edit, name)
        x = _picked(operand.source, columns, edit, name)
        info.shapes[x.name] = (*(shape or ())[:-1], span)
        return _as_tokens(x, span, sizes, info, edit, name)
    instances = -1 if isinstance(sizes.instances, Batch) else sizes.instances
    x = operand.tensor  # 4
    if operand.transposed:
        rank = len(info.shape(x) or ())
        x = edit.transpose(x, [*range(rank - 2), rank - 1, rank - 2], f"{name}/Transpose")
    x = edit.reshape(x, [instances, sizes.heads, sizes.tokens, sizes.width], f"{name}/Reshape")
    return edit.reshape(edit.transpose(x, [0, 2, 1, 3], f"{name}/Transpose"), [0, 0, span], f"{name}/Reshape")


def _picked(source: gs.Tensor, columns: np.ndarray, edit: Editor, name: str) -> gs.Variable:
    """Columns of a computed tensor."""
    first, last = int(columns[0]), int(columns[-1])
    if np.array_equal(columns, np.arange(first, last + 1)):
        bounds = [
            edit.constant(f"{name}/{what}", [value])
            for what, value in (("start", first), ("end", last + 1), ("axis", -1))
        ]
        return edit.add("Slice", [source, *bounds], f"{name}/Slice")
    index = edit.constant(f"{name}/columns", columns.astype(np.int64))
    return edit.add("Gather", [source, index], f"{name}/Gather", {"axis": -1})


def _as_tokens(tensor: gs.Tensor, channels: int, sizes: _Sizes, info: ShapeInfo, edit: Editor, name: str) -> gs.Tensor:
    """A tensor whose rows are the tokens, as [instances, tokens, channels]."""
    if info.shape(tensor) == (sizes.instances, sizes.tokens, channels):
        return tensor
    instances = -1 if isinstance(sizes.instances, Batch) else sizes.instances
    return edit.reshape(tensor, [instances, sizes.tokens, channels], f"{name}/tokens")


def _add_bias(x: gs.Variable, bias: np.ndarray, sizes: _Sizes, edit: Editor, scope: str) -> gs.Variable:
    constant = edit.constant(f"{scope}/bias", bias)
    windows, tokens = bias.shape[0], sizes.tokens
    if windows == 1:
        return edit.add("Add", [x, constant], f"{scope}/scores/Add")
    x = edit.reshape(x, [-1, windows, sizes.heads, tokens, tokens], f"{scope}/windows/Reshape")
    x = edit.add("Add", [x, constant], f"{scope}/scores/Add")
    return edit.reshape(x, [-1, sizes.heads, tokens, tokens], f"{scope}/windows/Reshape")


def _token_order(sizes: _Sizes) -> np.ndarray:
    """For each element [instance, head, token, channel], its position in [instance, token, head, channel]."""
    instances = at_batch((sizes.instances,), 2)[0]
    shape = (instances, sizes.tokens, sizes.heads, sizes.width)
    return np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int32).reshape(shape).transpose(0, 2, 1, 3)
