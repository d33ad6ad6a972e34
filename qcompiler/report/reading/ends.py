"""The layers at either end of a model: what reads the images, and what makes the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto

from qcompiler.report.reading.layers import FoundLayer, FoundLinear
from qcompiler.report.reading.wiring import DOMAIN, Wiring

_MOVES = frozenset({"Reshape", "Transpose", "Slice", "Split", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
# What may stand behind a head: activations of the prediction, and the mean of several heads.
_CLOSING = frozenset({"Softmax", "Sigmoid", "LogSoftmax", "Add", "Mul", "Div", "Concat"})
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)  # casts between them move elements, too


def end_layers(wiring: Wiring, layers: Sequence[FoundLayer]) -> list[bool]:
    """Of each layer, whether it is the patch embedding or a head.

    The patch embedding reads an input of the model through nothing but operators that move elements. A head's result
    reaches an output of the model, and it closes neither an attention block nor an MLP.
    """
    constants = {tensor.name for tensor in wiring.graph.initializer}
    floats = {item.name for item in wiring.graph.input if item.type.tensor_type.elem_type in _FLOATS}
    images = floats - constants
    products = {layer.node.output[0] for layer in layers if not isinstance(layer, FoundLinear)}

    def is_end(layer: FoundLayer) -> bool:
        if not isinstance(layer, FoundLinear):
            return False
        norm_first = layer.node.op_type.startswith("LayerNorm")
        source = _moved_from(layer.source, wiring)
        if not norm_first and source in images:
            return True
        maker = wiring.producer(source)
        closes_block = source in products or (maker is not None and maker.op_type.endswith("Gelu"))
        return (norm_first or not closes_block) and _reaches_output(layer.node, wiring)

    return [is_end(layer) for layer in layers]


def _moved_from(tensor: str, wiring: Wiring) -> str:
    """The tensor whose elements ``tensor`` holds."""
    while (node := wiring.producer(tensor)) is not None and _moves(node):
        tensor = node.input[0]
    return tensor


def _reaches_output(layer: onnx.NodeProto, wiring: Wiring) -> bool:
    if layer.op_type.endswith("Gelu"):
        return False
    outputs = {item.name for item in wiring.graph.output}
    seen: set[str] = set()
    waiting = list(layer.output)
    while waiting:
        tensor = waiting.pop()
        if tensor in outputs:
            return True
        for node in wiring.readers(tensor):
            if node.output[0] not in seen and (_moves(node) or _is(node, _CLOSING) or _adds(node, tensor)):
                seen.add(node.output[0])
                waiting += node.output
    return False


def _moves(node: onnx.NodeProto) -> bool:
    if _is(node, frozenset({"Cast"})):
        return any(item.name == "to" and item.i in _FLOATS for item in node.attribute)
    return _is(node, _MOVES)


def _adds(node: onnx.NodeProto, tensor: str) -> bool:
    """Whether a fused operator does no more with ``tensor`` than add it to its result."""
    return node.domain == DOMAIN and node.op_type.endswith("Add") and tensor not in node.input[:-1]


def _is(node: onnx.NodeProto, ops: frozenset[str]) -> bool:
    return node.domain == "" and node.op_type in ops
