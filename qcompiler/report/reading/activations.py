"""The type of the activations of a model file."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from qcompiler.ir.functions import FLOAT16, FLOAT32
from qcompiler.report.reading.shapes import element_types
from qcompiler.report.reading.wiring import DOMAIN

_NAMES = {int(TensorProto.FLOAT): FLOAT32, int(TensorProto.FLOAT16): FLOAT16}


def activation_type(model: onnx.ModelProto) -> str | None:
    """What the operators of qcompile read: ``float32`` or ``float16``.

    Returns:
        The type; ``float16`` where there are both, and None without such operators or where their inputs are unknown.
    """
    read = {node.input[0] for node in model.graph.node if node.domain == DOMAIN and node.input}
    types = element_types(model) if read else {}
    found = {_NAMES[types[name]] for name in read if types.get(name) in _NAMES}
    return FLOAT16 if FLOAT16 in found else next(iter(found), None)
