"""Writes ONNX Runtime's GELU operators in standard operators."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.runtime_operators import is_runtime


class ExpandFusedGelu(Pass):
    """Writes ONNX Runtime's GELU operators in standard operators.

    **Before**, all of domain `com.microsoft`:
      1. `Gelu(x)`, `BiasGelu(x, b)`.
      2. `FastGelu(x)`, `FastGelu(x, b)`.
      3. `QuickGelu(x; alpha)`.

    **After**: `Add(x, b)` where there is a bias, and
      1. `0.5 x (1 + Erf(x / sqrt(2)))` in operators of every opset.
      2. `0.5 x (1 + Tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
      3. `x Sigmoid(alpha x)`.

    **Leaves alone**
      4. The standard `Gelu` of opset 20.
    """

    OPERATORS = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in list(graph.nodes):
            if not is_runtime(node, self.OPERATORS):  # 4
                continue
            spelling = _Spelling(node.name, edit)
            x = node.inputs[0]
            if len(node.inputs) > 1 and not node.inputs[1].is_empty():
                x = spelling.add("Add", x, node.inputs[1])
            if node.op == "QuickGelu":
                result = spelling.quick(x, float(node.attrs.get("alpha", 1.702)))  # 3
            else:
                result = spelling.gelu(x, fast=node.op == "FastGelu")  # 1, 2
            edit.replace(node.outputs[0], result)
            node.outputs.clear()
            self.applied += 1
        return self.applied > 0


class _Spelling:
    """Adds the operators of one GELU."""

    def __init__(self, name: str, edit: Editor) -> None:
        self.name = name
        self.edit = edit

    def add(self, op: str, x: gs.Tensor, other: gs.Tensor | float | None = None) -> gs.Variable:
        inputs = [x]
        if other is not None:
            scalar = isinstance(other, float)
            inputs.append(self.edit.constant(f"{self.name}/value", np.array(other, np.float32)) if scalar else other)
        return self.edit.add(op, inputs, f"{self.name}/{op}")

    def gelu(self, x: gs.Tensor, fast: bool) -> gs.Variable:
        if fast:
            cube = self.add("Mul", self.add("Pow", x, 3.0), 0.044715)
            inner = self.add("Tanh", self.add("Mul", self.add("Add", x, cube), math.sqrt(2 / math.pi)))
        else:
            inner = self.add("Erf", self.add("Div", x, math.sqrt(2)))
        return self.add("Mul", self.add("Mul", x, self.add("Add", inner, 1.0)), 0.5)

    def quick(self, x: gs.Tensor, alpha: float) -> gs.Variable:
        return self.add("Mul", x, self.add("Sigmoid", self.add("Mul", x, alpha)))
