"""Who computes and who reads which tensor of a graph, and its constants."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

DOMAIN = "qcompiler"

# What the operators accept; counting with other numbers would divide by zero or take for ever.
_RANGES = {
    "bits": (1, 8),
    "qk_bits": (1, 8),
    "v_bits": (1, 8),
    "block": (1, 2**24),
    "rotate": (1, 128),
    "num_heads": (1, 2**16),
}


class Wiring:
    """The tensors of one graph by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._producers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)

    def producer(self, tensor: str, op: str | None = None) -> onnx.NodeProto | None:
        """The node that computes ``tensor``, if there is one and it is an ``op``."""
        node = self._producers.get(tensor)
        return node if node is not None and op in (None, node.op_type) else None

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read ``tensor``, in graph order."""
        return self._readers.get(tensor, [])

    def constant(self, tensor: str) -> onnx.TensorProto | None:
        """The initialiser of that name, if there is one."""
        return self._constants.get(tensor)

    def array(self, tensor: str, rank: int) -> NDArray[Any] | None:
        """Values of the initialiser of that name, if there is one of that rank; 4-bit integers as int8."""
        constant = self.constant(tensor)
        if constant is None or len(constant.dims) != rank:
            return None
        values = onnx.numpy_helper.to_array(constant)
        return values.astype(np.int8) if constant.data_type == onnx.TensorProto.INT4 else values


def whole_numbers(node: onnx.NodeProto, *names: str) -> tuple[int, ...] | None:
    """Values of those attributes, or None where one of them is missing, no whole number, or not one that can run."""
    found = {item.name: item.i for item in node.attribute if item.type == onnx.AttributeProto.INT}
    for name in found.keys() & _RANGES.keys():
        low, high = _RANGES[name]
        if not low <= found[name] <= high:
            del found[name]
    return tuple(found[name] for name in names) if found.keys() >= set(names) else None
