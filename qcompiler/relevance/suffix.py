"""The part of a float model behind one operand: what has to run again when only that operand changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from qcompiler.ir.submodel import needed_nodes, read_tensors, submodel


@dataclass(frozen=True)
class Operand:
    """One input of one node: the place of a quantizer.

    Attributes:
        node: Name of the node.
        index: Position of the input.
        tensor: Name of the tensor there.
    """

    node: str
    index: int
    tensor: str


class SuffixGraph:
    """Cuts suffixes out of a model.

    Args:
        model: Float model with sorted nodes; it is not changed.
    """

    REPLACED = "replaced_operand"
    WEIGHT = "replaced_weight"

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = [tensor.name for tensor in model.graph.initializer]

    def frontier(self, operand: Operand) -> list[str]:
        """Tensors, besides the operand, that the suffix reads from the part that does not change."""
        nodes = self._edited(self._suffix(operand), operand, None)
        return [name for name in read_tensors(nodes, self._constants) if name != self.REPLACED]

    def cut(self, operand: Operand, weight: str | None = None, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
        """The suffix as a model.

        Args:
            operand: What is fed instead of being computed, as input ``REPLACED``. Other readings of the same tensor
                keep the float tensor, which is then part of the frontier.
            weight: Initialiser that the operand's node reads, which becomes the input ``WEIGHT``; other nodes that
                read it keep the constant. None leaves every initialiser as it is.
            outputs: Tensors that are returned; None for the first output of the whole model. Nodes that none of them
                needs are left out.

        Returns:
            A model with inputs ``REPLACED``, then ``WEIGHT`` if asked for, then those tensors of the frontier that the
            outputs need.

        Raises:
            ValueError: An output does not depend on the operand, or the operand's node does not read the weight.
        """
        names = [self._model.graph.output[0].name] if outputs is None else list(dict.fromkeys(outputs))
        suffix = self._suffix(operand)
        made = {name for node in suffix for name in node.output}
        for name in names:
            if name not in made:
                raise ValueError(f"'{name}' does not depend on input {operand.index} of node '{operand.node}'")
        nodes = self._edited(needed_nodes(suffix, names), operand, weight)
        fed = [self.REPLACED] if weight is None else [self.REPLACED, self.WEIGHT]
        frontier = [name for name in read_tensors(nodes, self._constants) if name not in fed]
        return submodel(self._model, nodes, [*fed, *frontier], names)

    def prefix(self, tensors: Sequence[str]) -> onnx.ModelProto:
        """The part from the inputs of the whole model to computed ``tensors``, as a model that returns them."""
        nodes = needed_nodes(self._model.graph.node, tensors)
        return submodel(self._model, nodes, read_tensors(nodes, self._constants), tensors)

    def _suffix(self, operand: Operand) -> list[onnx.NodeProto]:
        changed: set[str] = set()
        nodes = []
        for node in self._model.graph.node:
            if node.name == operand.node or changed.intersection(node.input):
                nodes.append(node)
                changed.update(node.output)
        return nodes

    def _edited(self, nodes: Sequence[onnx.NodeProto], operand: Operand, weight: str | None) -> list[onnx.NodeProto]:
        return [self._reading(node, operand, weight) if node.name == operand.node else node for node in nodes]

    def _reading(self, node: onnx.NodeProto, operand: Operand, weight: str | None) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[operand.index] = self.REPLACED
        if weight is not None:
            places = [index for index, name in enumerate(copy.input) if name == weight]
            if not places or weight not in self._constants:
                raise ValueError(f"node '{operand.node}' reads no initialiser '{weight}'")
            for index in places:
                copy.input[index] = self.WEIGHT
        return copy
