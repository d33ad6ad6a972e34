"""Writes ONNX Runtime's attention operators in standard operators."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.runtime_operators import is_runtime, unsupported
from qcompiler.ir.shapes import infer

# Input that carries the bias of the scores.
_SCORE_BIAS = 5


class ExpandFusedAttention(Pass):
    """Writes ONNX Runtime's attention operators in standard operators.

    **Before**, of domain `com.microsoft`:
      1. `Attention(x, W, b; num_heads, scale)` with one packed weight.
      2. `MultiHeadAttention(q, k, v[, b]; num_heads, scale)` of three tensors [B, N, C].
      3. Either with a constant or computed bias of the scores as its sixth input.

    **After**: heads by `Reshape` and `Transpose`, `MatMul` -> `Mul` -> `Add` if 3 -> `Softmax` -> `MatMul` ->
    `Transpose` -> `Reshape`; the scale is 1 / sqrt(channels of a head) unless one is given.
      1. `MatMul(x, W)`, `Add(., b)` and a `Split` in three equal parts in front.
      2. `Add` with a third of the bias for each of them.

    **Leaves alone**
      4. The standard `Attention` of opset 23.

    **Refuses the model**: masks, a cache of past keys, several results, causal attention, keys of other widths than
    values, packed or unknown shapes.
    """

    OPERATORS = ("Attention", "MultiHeadAttention")

    def apply(self, graph: gs.Graph) -> bool:
        nodes = [node for node in graph.nodes if is_runtime(node, self.OPERATORS)]  # 4
        if not nodes:
            return False
        edit, info = Editor(graph), infer(graph)
        for node in nodes:
            _check(node)
            parts = self._packed(node, edit) if node.op == "Attention" else self._separate(node, edit)
            source = info.shape(node.inputs[0]), info.shape(node.inputs[1])
            width = source[1] if node.op == "Attention" else source[0]
            if width is None or source[0] is None or len(source[0]) != 3 or not isinstance(width[-1], int):
                raise unsupported(node, "of unknown or packed shape")
            self._expand(node, parts, width[-1] // (3 if node.op == "Attention" else 1), edit)
        return True

    def _packed(self, node: gs.Node, edit: Editor) -> list[gs.Variable]:
        """Case 1."""
        x = edit.add("MatMul", node.inputs[:2], f"{node.name}/qkv/MatMul")
        if _has(node, 2):
            x = edit.add("Add", [x, node.inputs[2]], f"{node.name}/qkv/Add")
        columns = int(node.inputs[1].shape[-1]) // 3
        sizes = edit.constant(f"{node.name}/sizes", [columns] * 3)
        return edit.add_many("Split", [x, sizes], f"{node.name}/Split", 3, {"axis": -1})

    def _separate(self, node: gs.Node, edit: Editor) -> list[gs.Tensor]:
        """Case 2."""
        parts: list[gs.Tensor] = list(node.inputs[:3])
        if not _has(node, 3):
            return parts
        bias = node.inputs[3]
        if not isinstance(bias, gs.Constant):
            raise unsupported(node, "with a computed bias")
        thirds = np.split(np.asarray(bias.values).reshape(-1), 3)
        return [
            edit.add("Add", [part, edit.constant(f"{node.name}/{letter}/bias", third)], f"{node.name}/{letter}/Add")
            for part, third, letter in zip(parts, thirds, "qkv", strict=True)
        ]

    def _expand(self, node: gs.Node, parts: list[gs.Tensor], channels: int, edit: Editor) -> None:
        heads = int(node.attrs["num_heads"])
        width = channels // heads
        perms = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
        q, k, v = (
            edit.transpose(
                edit.reshape(part, [0, 0, heads, width], f"{node.name}/{letter}/Reshape"),
                perm,
                f"{node.name}/{letter}/Transpose",
            )
            for part, (letter, perm) in zip(parts, perms.items(), strict=True)
        )
        scale = float(node.attrs.get("scale", 0.0)) or 1 / math.sqrt(width)
        x = edit.add("MatMul", [q, k], f"{node.name}/scores/MatMul")
        x = edit.add("Mul", [x, edit.constant(f"{node.name}/scale", np.array(scale, np.float32))], f"{node.name}/Mul")
        if _has(node, _SCORE_BIAS):  # 3
            x = edit.add("Add", [x, node.inputs[_SCORE_BIAS]], f"{node.name}/Add")
        x = edit.add("Softmax", [x], f"{node.name}/Softmax", {"axis": -1})
        x = edit.add("MatMul", [x, v], f"{node.name}/MatMul")
        x = edit.transpose(x, [0, 2, 1, 3], f"{node.name}/Transpose")
        edit.replace(node.outputs[0], edit.reshape(x, [0, 0, channels], f"{node.name}/Reshape"))
        node.outputs.clear()
        self.applied += 1


def _check(node: gs.Node) -> None:
    """Refuses what the expansion does not compute."""
    past = range(4, 5) if node.op == "Attention" else range(6, 10)
    mask = 3 if node.op == "Attention" else 4
    if _has(node, mask):
        raise unsupported(node, "with a mask")
    if any(_has(node, index) for index in past) or len([item for item in node.outputs if not item.is_empty()]) > 1:
        raise unsupported(node, "with a cache or several results")
    if node.attrs.get("unidirectional", 0):
        raise unsupported(node, "that is causal")
    if node.attrs.get("do_rotary", 0) or len(set(node.attrs.get("qkv_hidden_sizes", []))) > 1:
        raise unsupported(node, "with rotary positions or widths of its own for values")
    if node.op == "MultiHeadAttention" and not (_has(node, 1) and _has(node, 2)):
        raise unsupported(node, "with packed keys and values")


def _has(node: gs.Node, index: int) -> bool:
    return index < len(node.inputs) and not node.inputs[index].is_empty()
