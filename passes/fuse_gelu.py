"""Finds GELU by what a group of nodes computes, not by how it is spelled."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_variable, producer, scalar_of
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass

# Elementwise operators of one tensor and scalars, on float64 arrays.
_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Tanh": np.tanh,
    "Erf": np.frompyfunc(math.erf, 1, 1),
}

# The spellings use constants rounded to float32 (sqrt 2, 0.7978846), hence not tighter.
_TOLERANCE = 1e-5
_GRID = np.concatenate([np.linspace(-9.0, 9.0, 181), [-40.0, -1e-3, 1e-3, 40.0]])
_ERF = np.array([math.erf(x / math.sqrt(2.0)) for x in _GRID])
_EXACT = 0.5 * _GRID * (1.0 + _ERF)
_TANH = 0.5 * _GRID * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (_GRID + 0.044715 * _GRID**3)))

# Longest spelling known: tanh with the cube as two products.
_REACH = 10


class FuseGelu(Pass):
    """Finds GELU by what a group of nodes computes, not by how it is spelled.

    **Before**: elementwise nodes with scalar constants around an `Erf` or `Tanh`, with one input x and one result.
      1. Any spelling of `0.5 x (1 + erf(x / sqrt 2))`.
      2. Any spelling of `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.

    **After**
      1. `Gelu(x; approximate="none")`.
      2. `Gelu(x; approximate="tanh")`.

    **Leaves alone**
      3. An `Erf` or `Tanh` that is part of another function.
      4. A group in which an inner result has a reader outside of it or is a graph output.

    The function is recognised on a grid of points in float64, to 1e-5.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op in ("Erf", "Tanh")]:
            found = _find(node, graph)
            if found is None:
                self.refuse(node, "not part of a GELU whose inner results are read nowhere else")  # 3, 4
                continue
            source, result, kind = found
            name = node.name.rsplit("/", 1)[0] + "/Gelu" if "/" in node.name else node.name + "/Gelu"
            gelu = edit.add("Gelu", [source], name, {"approximate": kind})
            edit.replace(result, gelu)
            self.applied += 1
        return self.applied > 0


def _find(anchor: gs.Node, graph: gs.Graph) -> tuple[gs.Tensor, gs.Variable, str] | None:
    sources = _upward(anchor)
    for result in _downward(anchor, graph):
        for source in sources:
            nodes = _between(source, result)
            if nodes is None or anchor not in nodes or not _closed(nodes, result, graph):
                continue
            values = _values(source, result, nodes)
            for kind, expected in (("none", _EXACT), ("tanh", _TANH)):
                if np.allclose(values, expected, rtol=_TOLERANCE, atol=_TOLERANCE * 0.1):
                    return source, result, kind
    return None


def _upward(anchor: gs.Node) -> list[gs.Tensor]:
    """Tensors that can be the input x, nearest first."""
    found: list[gs.Tensor] = []
    queue = [tensor for tensor in anchor.inputs if is_variable(tensor)]
    while queue and len(found) < _REACH:
        tensor = queue.pop(0)
        if any(tensor is item for item in found):
            continue
        found.append(tensor)
        node = producer(tensor)
        if node is not None and _is_elementwise(node):
            queue += [item for item in node.inputs if is_variable(item)]
    return found


def _downward(anchor: gs.Node, graph: gs.Graph) -> list[gs.Variable]:
    """Tensors that can be the result, nearest first."""
    found: list[gs.Variable] = []
    node = anchor
    while len(found) < _REACH:
        tensor = node.outputs[0]
        found.append(tensor)
        if len(tensor.outputs) != 1 or any(tensor is output for output in graph.outputs):
            break
        node = tensor.outputs[0]
        if not _is_elementwise(node):
            break
    return found


def _is_elementwise(node: gs.Node) -> bool:
    return node.op in _FUNCTIONS and all(is_variable(item) or scalar_of(item) is not None for item in node.inputs)


def _between(source: gs.Tensor, result: gs.Variable) -> list[gs.Node] | None:
    """The nodes that compute `result` from `source` and scalars alone, inputs before readers; None if others do."""
    order: list[gs.Node] = []

    def visit(tensor: gs.Tensor) -> bool:
        if tensor is source or isinstance(tensor, gs.Constant):
            return True
        node = producer(tensor)
        if node is None or not _is_elementwise(node) or len(order) > 2 * _REACH:
            return False
        if any(node is item for item in order):
            return True
        if not all(visit(item) for item in node.inputs):
            return False
        order.append(node)
        return True

    return order if visit(result) else None


def _closed(nodes: list[gs.Node], result: gs.Variable, graph: gs.Graph) -> bool:
    inner = [node.outputs[0] for node in nodes if node.outputs[0] is not result]
    return all(any(reader is node for node in nodes) for tensor in inner for reader in tensor.outputs) and not any(
        tensor is output for tensor in inner for output in graph.outputs
    )


def _values(source: gs.Tensor, result: gs.Variable, nodes: list[gs.Node]) -> np.ndarray:
    known = {source.name: _GRID}
    for node in nodes:
        operands = [known[item.name] if is_variable(item) else np.float64(scalar_of(item)) for item in node.inputs]
        with np.errstate(all="ignore"):
            known[node.outputs[0].name] = np.asarray(_FUNCTIONS[node.op](*operands), np.float64)
    return known[result.name]
