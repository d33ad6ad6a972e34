"""The part of a model that relevance passes through, and the tensors that all of it passes through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx

from qcompiler.ir.dims import Batch, at_batch
from qcompiler.ir.importing import to_graph
from qcompiler.ir.shapes import ShapeInfo, infer
from qcompiler.ir.weight_files import tensor_array
from qcompiler.relevance.lrp_rules import rule_of
from qcompiler.relevance.lrp_visit import Reading

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RelevancePath:
    """What lies between the images and the outputs of a model with sorted nodes.

    Attributes:
        outputs: The float outputs that depend on the images; the first one of the model where there are none.
        nodes: Nodes that the outputs depend on and that depend on the images, in graph order.
        variables: Their outputs and the inputs of the graph.
        constants: Initialisers.
        info: Shapes.
    """

    outputs: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    variables: frozenset[str]
    constants: Mapping[str, Array]
    info: ShapeInfo

    @staticmethod
    def of(model: onnx.ModelProto) -> RelevancePath:
        """The path of a model."""
        graph = model.graph
        constants = {tensor.name: tensor_array(tensor) for tensor in graph.initializer}
        variables = {item.name for item in graph.input if item.name not in constants}
        for node in graph.node:
            if variables.intersection(node.input):
                variables.update(filter(None, node.output))
        float32 = onnx.TensorProto.FLOAT
        outputs = [item.name for item in graph.output if item.type.tensor_type.elem_type == float32]
        outputs = [name for name in outputs if name in variables] or [graph.output[0].name]
        needed, nodes = set(outputs), []
        for node in reversed(graph.node):
            if needed.intersection(node.output) and variables.intersection(node.input):
                needed.update(node.input)
                nodes.append(node)
        return RelevancePath(
            tuple(outputs), tuple(reversed(nodes)), frozenset(variables), constants, infer(to_graph(model))
        )

    def stream(self) -> tuple[str, ...]:
        """The residual stream: tensors that every way from the images to an output passes, in graph order.

        Of such tensors one behind the other, those count that several nodes read. The first one is what block 0 reads,
        the tokens, unless the patch embedding has branches of its own.
        """
        readers = Counter(name for node in self.nodes for name in self.variables.intersection(node.input))
        waiting = readers + Counter(self.outputs)
        live = set(self._inputs())
        found = []
        for node in self.nodes:
            waiting.subtract(self.variables.intersection(node.input))
            live = {name for name in live.union(node.output) if waiting[name] > 0}
            if len(live) == 1 and live.issubset(node.output):
                found += [name for name in live if readers[name] > 1]
        return tuple(found)

    def below(self, tensors: Iterable[str]) -> tuple[onnx.NodeProto, ...]:
        """The nodes that relevance has to pass to reach all of ``tensors``, in graph order."""
        reached, nodes = set(tensors), []
        for node in self.nodes:
            if reached.intersection(node.input):
                reached.update(node.output)
                nodes.append(node)
        return tuple(nodes)

    def reads(self, nodes: Iterable[onnx.NodeProto]) -> tuple[str, ...]:
        """The computed float tensors that the rules of ``nodes`` need the values of, or, unknown so far, the shapes."""
        wanted = dict[str, None]()
        for node in nodes:
            asked = rule_of(node).reads(self.readings(node, {}, images=1))
            wanted.update(dict.fromkeys(node.input[index] for index in asked if index < len(node.input)))
            wanted.update(dict.fromkeys(name for name in (*node.input, *node.output) if not self._is_known(name)))
        given = self._inputs().union(self.constants, [""])
        float32 = onnx.TensorProto.FLOAT
        return tuple(name for name in wanted if name not in given and self.info.dtypes.get(name, float32) == float32)

    def readings(self, node: onnx.NodeProto, values: Mapping[str, Array], images: int) -> tuple[Reading | None, ...]:
        """The inputs of a node, with the values known."""
        return tuple(
            Reading(name in self.variables, self.shape(name, values, images), self._value(name, values))
            if name
            else None
            for name in node.input
        )

    def shape(self, name: str, values: Mapping[str, Array], images: int) -> tuple[int, ...]:
        """The shape of a tensor for a batch of ``images``; () for one that nothing is known of yet."""
        value = self._value(name, values)
        return at_batch(self.info.shapes.get(name, ()), images) if value is None else value.shape

    def leads(self, name: str) -> bool:
        """Whether a tensor's images may lie along axis 0: nothing tells that they lie along another one."""
        return not any(isinstance(size, Batch) for size in self.info.shapes.get(name, ())[1:])

    def _value(self, name: str, values: Mapping[str, Array]) -> Array | None:
        return values.get(name, self.constants.get(name))

    def _is_known(self, name: str) -> bool:
        """Whether nothing has to be run to know a tensor's shape, and its values if it is a constant."""
        return name in self.constants or (name in self.info.shapes and name in self.variables)

    def _inputs(self) -> frozenset[str]:
        return self.variables.difference(*(node.output for node in self.nodes))
