"""Fold channel-wise quantization into the LayerNormalization in front of linear layers and into the layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.bias import replace_bias
from qcompiler.ir.editing import Editor
from qcompiler.ir.fold_sites import FoldMatch, Obstacle, folded_name, is_folded, match_fold
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import infer
from qcompiler.quant.channelwise import folded_norm, folded_weight
from qcompiler.quant.plan import ChannelFold


class FoldChannelScales(Pass):
    """Lets a LayerNormalization write channels that one quantizer fits, and the linear layers behind it undo that.

    **Before**: `LayerNormalization(X, gamma, beta)` whose name is in the plan, over the last axis, read only by linear
    layers, directly or through operators that keep the channels apart: layout operators, and means over tokens.
      1. `MatMul(X', W)` with a constant W and the `Add` of its bias b.
      2. `MatMul(X', W)` without one.

    **After**: `LayerNormalization(X, gamma / scale, (beta + shift) / scale)` and in every linear layer
      1. `W scale` (row by row) and `b - shift W`.
      2. The same, with a new `Add` of `-shift W`.

    **Leaves alone**
      3. A LayerNormalization with another reader, that is an output of the graph, or without constant scale and bias.
      4. A LayerNormalization that was folded before: the new names of scale and bias tell.

    Args:
        folds: Folds by the name of the LayerNormalization.
    """

    def __init__(self, folds: Mapping[str, ChannelFold]) -> None:
        super().__init__()
        self._folds = folds

    def requires(self, graph: gs.Graph) -> None:
        """Every planned norm is a LayerNormalization with the planned number of channels."""
        nodes = {node.name: node for node in graph.nodes}
        for name, fold in self._folds.items():
            node = nodes.get(name)
            if node is None or node.op != "LayerNormalization":
                raise VerificationError(f"the plan names '{name}', which is no LayerNormalization of the graph")
            shape, planned = tuple(node.inputs[1].shape or ()), fold.scale.shape
            if shape != planned:
                raise VerificationError(f"the fold of '{name}' is for a scale of shape {planned}, not {shape}")

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        info = infer(graph)
        for norm in [node for node in graph.nodes if node.name in self._folds]:
            if is_folded(norm):
                continue  # 4
            found = match_fold(norm, graph, info)
            if isinstance(found, Obstacle):
                self.refuse(norm, found.reason, found.value)  # 3
                continue
            self._fold(edit, found, self._folds[norm.name])
            self.applied += 1
        return self.applied > 0

    def _fold(self, edit: Editor, found: FoldMatch, fold: ChannelFold) -> None:
        norm = found.norm
        gamma, beta = folded_norm(norm.inputs[1].values, norm.inputs[2].values, fold)
        norm.inputs[1] = edit.constant(folded_name(norm, "scale"), gamma)
        norm.inputs[2] = edit.constant(folded_name(norm, "bias"), beta)
        for layer in found.consumers:
            weight, bias = folded_weight(np.asarray(layer.weight.values), layer.bias_values(), fold)
            layer.matmul.inputs[1] = edit.constant(f"{layer.weight.name}/folded", weight)
            name = f"{layer.matmul.name}.bias" if layer.bias is None else f"{layer.bias.name}/folded"
            replace_bias(edit, layer, bias, name)  # 1, 2
