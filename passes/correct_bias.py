"""Correct biases: what quantization moves the mean of a layer's output by is taken back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.bias import replace_bias
from qcompiler.ir.constants import is_constant
from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch, is_linear, linear_at
from qcompiler.ir.passes import Pass
from qcompiler.quant.groups import F32

_MARK = "corrected"


class CorrectBias(Pass):
    """Adds the plan's corrections to the biases of linear layers, in front of quantization.

    **Before**: `MatMul(X, W)` with a constant W, whose name is in the plan, and
      1. the `Add` of its bias b.
      2. no bias.

    **After**
      1. `Add` of `b + correction`.
      2. A new `Add` of `correction`.

    **Leaves alone**
      3. A layer that the plan does not name, or whose bias was corrected before: its name tells.

    Args:
        corrections: What is added to the bias `[D]`, by the name of the MatMul.
    """

    def __init__(self, corrections: Mapping[str, F32]) -> None:
        super().__init__()
        self._corrections = corrections

    def requires(self, graph: gs.Graph) -> None:
        """Every planned layer is a MatMul with a constant weight of as many columns as there are corrections."""
        nodes = {node.name: node for node in graph.nodes}
        for name, correction in self._corrections.items():
            node = nodes.get(name)
            if node is None or node.op != "MatMul" or (is_constant(node.inputs[1]) and not is_linear(node)):
                raise VerificationError(f"the plan names '{name}', which is no linear layer of the graph")
            shape = tuple(node.inputs[1].shape or ())
            if is_linear(node) and (shape[1],) != correction.shape:
                raise VerificationError(f"the correction of '{name}' is for {correction.shape}, not ({shape[1]},)")

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.name in self._corrections]:
            layer = linear_at(node, graph)
            if layer is None or _is_corrected(layer):
                continue  # 3
            correction = self._corrections[node.name]
            name = f"{node.name}.bias" if layer.bias is None else layer.bias.name
            bias = (layer.bias_values() + correction).astype(np.float32)
            replace_bias(edit, layer, bias, f"{name}/{_MARK}")  # 1, 2
            self.applied += 1
        return self.applied > 0


def _is_corrected(layer: LinearMatch) -> bool:
    # A number follows the mark where two layers shared a bias.
    return layer.bias is not None and re.search(rf"/{_MARK}(_\d+)?$", layer.bias.name) is not None
