"""Computes what depends on constants only."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.evaluate import evaluate
from qcompiler.ir.passes import Pass

# A constant that grows a lot (Expand, Tile) is better computed at run time.
_LARGEST_GROWTH = 1 << 24

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


class FoldConstants(Pass):
    """Computes what depends on constants only.

    **Before**
      1. `Constant()`.
      2. A node whose inputs are all initialisers, or left out.

    **After**: an initialiser of the same name. Readers that became case 2 are folded too.

    **Leaves alone**
      3. Random operators, operators with subgraphs, and operators of other domains.
      4. Results more than 16 MiB larger than what they are computed from.
    """

    def apply(self, graph: gs.Graph) -> bool:
        kept = []
        for node in graph.nodes:
            values = self._values(node, graph)
            if values is None:
                kept.append(node)
                continue
            for tensor, array in zip(list(node.outputs), values, strict=True):
                _become_constant(tensor, array)
            node.outputs.clear()
            node.inputs.clear()
            self.applied += 1
        graph.nodes[:] = kept
        return self.applied > 0

    def ensures(self, graph: gs.Graph) -> None:
        left = next((node for node in graph.nodes if node.op == "Constant"), None)
        if left is not None:
            raise VerificationError(f"node '{left.name}' (Constant) is left")

    def _values(self, node: gs.Node, graph: gs.Graph) -> list[np.ndarray] | None:
        given = [tensor for tensor in node.inputs if not tensor.is_empty()]
        if not all(isinstance(tensor, gs.Constant) for tensor in given):
            return None
        if any(tensor is output for tensor in node.outputs for output in graph.outputs):
            return None
        if not given and node.op != "Constant":
            return None
        if node.domain not in (None, "", "ai.onnx") or node.op in _RANDOM or any(node.subgraphs()):  # 3
            return None
        inputs = [np.asarray(tensor.values) for tensor in given]
        values = evaluate(node, inputs, graph.opset)
        growth = sum(value.nbytes for value in values) - sum(value.nbytes for value in inputs)
        if node.op != "Constant" and growth > _LARGEST_GROWTH:  # 4
            self.refuse(node, "its constant result is much larger than its inputs", f"{growth} bytes more")
            return None
        return values


def _become_constant(tensor: gs.Tensor, values: np.ndarray) -> None:
    """Turns a computed tensor into an initialiser where its readers stand."""
    constant = gs.Constant(tensor.name, values)
    for consumer in list(tensor.outputs):
        for index, item in enumerate(consumer.inputs):
            if item is tensor:
                consumer.inputs[index] = constant
