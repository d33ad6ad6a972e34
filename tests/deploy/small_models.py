"""Models of one operator, for what is read off a model rather than run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str]


def identity(name: str, result: str, elements: int, shape: Shape) -> onnx.ModelProto:
    """`result = name`, a tensor of these elements and this shape (texts are free sizes)."""
    node = helper.make_node("Identity", [name], [result])
    inputs = [helper.make_tensor_value_info(name, elements, shape)]
    outputs = [helper.make_tensor_value_info(result, elements, shape)]
    return _model(helper.make_graph([node], "identity", inputs, outputs))


def with_external_weights(folder: Path, location: str = "weights.bin") -> Path:
    """`y = x + w` whose weight lies in a file of its own."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    weight = onnx.numpy_helper.from_array(np.arange(1024, dtype=np.float32), "w")
    graph = helper.make_graph(
        [node],
        "add",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1024])],
        [weight],
    )
    path = folder / "add.onnx"
    onnx.save(_model(graph), path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
