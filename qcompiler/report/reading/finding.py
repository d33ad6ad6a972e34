"""All quantized layers of a graph."""

from __future__ import annotations

import onnx

from qcompiler.report.reading.fused import fused_attention, fused_linear
from qcompiler.report.reading.layers import FoundLayer
from qcompiler.report.reading.readable import readable_layer
from qcompiler.report.reading.wiring import Wiring


def find_layers(wiring: Wiring) -> tuple[FoundLayer, ...]:
    """The quantized layers in graph order, fused or readable."""
    return tuple(found for node in wiring.graph.node if (found := _layer(node, wiring)) is not None)


def _layer(node: onnx.NodeProto, wiring: Wiring) -> FoundLayer | None:
    return fused_linear(node, wiring) or fused_attention(node, wiring) or readable_layer(node, wiring)
