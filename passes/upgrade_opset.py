"""Brings every node to the form of opset 21."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from qcompiler.errors import UnsupportedModelError, VerificationError
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.verifier import OPSET

# The first opset whose Softmax, Squeeze and Split mean what they mean today.
_OLDEST = 13

_REDUCTIONS = frozenset(
    {
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSumSquare",
    }
)


class UpgradeOpset(Pass):
    """Brings every node to the form of opset 21.

    **Before**: a graph of opset 13 to 20, or of a later one.

    **After**: the same graph in opset 21.
      1. `ReduceMean(x; axes=a)` and its relatives (before 18) take their axes as an input.
      2. `Split(x)` without sizes (before 18) gets `num_outputs`.
      3. Other operators differ in types and defaults that a float graph does not use: they stay as they are.

    **Leaves alone**: a graph that is in opset 21 already.

    **Refuses the model**: opsets before 13, operators of other domains, operators that opset 21 does not have.
    """

    def apply(self, graph: gs.Graph) -> bool:
        if graph.opset < _OLDEST:
            raise UnsupportedModelError(
                f"the model has opset {graph.opset}; export it again with opset {_OLDEST} or later (17 is best)"
            )
        if graph.opset == OPSET:
            _check_operators(graph)
            return False
        edit = Editor(graph)
        for node in graph.nodes:
            if node.op in _REDUCTIONS and "axes" in node.attrs:  # 1
                axes = edit.constant(f"{node.name}/axes", np.array(node.attrs.pop("axes"), np.int64))
                node.inputs.append(axes)
                self.applied += 1
            elif node.op == "Split" and len(node.inputs) == 1 and "num_outputs" not in node.attrs:  # 2
                node.attrs["num_outputs"] = len(node.outputs)
                self.applied += 1
        graph.opset = OPSET
        graph.import_domains = None
        _check_operators(graph)
        return True

    def ensures(self, graph: gs.Graph) -> None:
        if graph.opset != OPSET:
            raise VerificationError(f"the opset is {graph.opset} instead of {OPSET}")


def _check_operators(graph: gs.Graph) -> None:
    for node in graph.nodes:
        if node.domain not in (None, "", "ai.onnx"):
            raise UnsupportedModelError(
                f"node '{node.name}' is the operator '{node.op}' of domain '{node.domain}'; export the model with "
                "standard operators only, before any optimiser of a runtime"
            )
        if not onnx.defs.has(node.op, OPSET, ""):
            raise UnsupportedModelError(
                f"node '{node.name}' is the operator '{node.op}', which opset {OPSET} does not have; "
                f"export the model with opset {OPSET} or earlier"
            )
