"""Editing a graph: adding nodes and initialisers under free names, and replacing tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs


class Editor:
    """Adds to a graph under names that are free.

    Args:
        graph: the graph to edit; nodes are appended, the caller sorts it when the edit is complete.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        self._names = set(graph.tensors()) | {node.name for node in graph.nodes}

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted_1`, `wanted_2`, ... when it is taken; reserves the name."""
        name, number = wanted, 0
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def constant(self, name: str, values: np.ndarray | Sequence[int]) -> gs.Constant:
        """A new initialiser; a sequence of integers becomes int64."""
        array = np.array(values, np.int64) if not isinstance(values, np.ndarray) else np.ascontiguousarray(values)
        if isinstance(values, np.ndarray):
            array = array.reshape(values.shape)  # ascontiguousarray gives a scalar one axis
        return gs.Constant(self.free_name(name), array)

    def add(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        name: str,
        attrs: dict[str, Any] | None = None,
        dtype: Any = np.float32,
        domain: str | None = None,
    ) -> gs.Variable:
        """Appends a node with one output; returns the output."""
        return self.add_many(op, inputs, name, 1, attrs, dtype, domain)[0]

    def add_many(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        name: str,
        count: int,
        attrs: dict[str, Any] | None = None,
        dtype: Any = np.float32,
        domain: str | None = None,
    ) -> list[gs.Variable]:
        """Appends a node with `count` outputs, of the standard domain unless `domain` is given; returns them."""
        name = self.free_name(name)
        suffixes = ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
        outputs = [gs.Variable(self.free_name(f"{name}/{suffix}"), dtype=dtype) for suffix in suffixes]
        node = gs.Node(op, name, attrs=attrs or {}, inputs=list(inputs), outputs=list(outputs), domain=domain)
        self.graph.nodes.append(node)
        return outputs

    def reshape(self, tensor: gs.Tensor, shape: Sequence[int], name: str) -> gs.Variable:
        """Appends a Reshape to a constant shape (0 copies a dimension, -1 is what is left)."""
        return self.add("Reshape", [tensor, self.constant(f"{name}/shape", list(shape))], name)

    def transpose(self, tensor: gs.Tensor, perm: Sequence[int], name: str) -> gs.Variable:
        """Appends a Transpose."""
        return self.add("Transpose", [tensor], name, {"perm": list(perm)})

    def replace(self, old: gs.Variable, new: gs.Tensor) -> None:
        """Makes every reader of `old` read `new`; a graph output keeps its name.

        `new` must not be computed from `old`. The node that computed `old` stays, without a reader.
        """
        is_output = any(old is output for output in self.graph.outputs)
        for consumer in list(old.outputs):
            for index, tensor in enumerate(consumer.inputs):
                if tensor is old:
                    consumer.inputs[index] = new
        if not is_output:
            return
        old.inputs.clear()
        renamable = isinstance(new, gs.Variable) and new.inputs and not any(new is out for out in self.graph.outputs)
        if not renamable:
            self.graph.nodes.append(gs.Node("Identity", self.free_name("output"), inputs=[new], outputs=[old]))
            return
        node = new.inputs[0]
        index = next(position for position, tensor in enumerate(node.outputs) if tensor is new)
        for consumer in list(new.outputs):
            for position, tensor in enumerate(consumer.inputs):
                if tensor is new:
                    consumer.inputs[position] = old
        node.outputs[index] = old
