"""The part of a float model behind one operand: what has to run again when only that operand changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnxruntime as ort

from qcompiler.quant.groups import F32


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
        model: Float model with sorted nodes.
    """

    REPLACED = "replaced_operand"

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def frontier(self, operand: Operand) -> list[str]:
        """Tensors, besides the operand, that the suffix reads from the part that does not change."""
        computed, needed = set(), dict[str, None]()
        for node in self._suffix(operand):
            for index, name in enumerate(node.input):
                replaced = node.name == operand.node and index == operand.index
                if name and not replaced and name not in computed and name not in self._constants:
                    needed[name] = None
            computed.update(node.output)
        return list(needed)

    def cut(self, operand: Operand) -> onnx.ModelProto:
        """The suffix as a model with inputs ``REPLACED`` and the frontier, and the first output of the whole model."""
        nodes = []
        for node in self._suffix(operand):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.name == operand.node:
                copy.input[operand.index] = self.REPLACED
            nodes.append(copy)
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in (self.REPLACED, *self.frontier(operand))
        ]
        used = {name for node in nodes for name in node.input}
        constants = [tensor for name, tensor in self._constants.items() if name in used]
        graph = onnx.helper.make_graph(nodes, "suffix", inputs, [self._model.graph.output[0]], constants)
        return onnx.helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )

    def _suffix(self, operand: Operand) -> Sequence[onnx.NodeProto]:
        changed: set[str] = set()
        nodes = []
        for node in self._model.graph.node:
            if node.name == operand.node or changed.intersection(node.input):
                nodes.append(node)
                changed.update(node.output)
        return nodes


def suffix_session(graph: SuffixGraph, operand: Operand, threads: int) -> ort.InferenceSession:
    """An ONNX Runtime session of the suffix behind ``operand``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(graph.cut(operand).SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_suffix(
    session: ort.InferenceSession, replaced: F32, frontier: Sequence[str], values: Mapping[str, F32]
) -> F32:
    """Logits of the model with the operand replaced."""
    feed = {SuffixGraph.REPLACED: replaced, **{name: values[name] for name in frontier}}
    return session.run(None, feed)[0]
