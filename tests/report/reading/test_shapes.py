"""Sizes of tensors, against those of a run on the operators' bodies."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler.report.reading.shapes import image_count, tensor_shapes

from .. import transformers
from ..samples import lowered_model, readable_model

MODELS = {
    "vit": (transformers.vit, (1, 4, 4)),
    "windows": (transformers.windows, (8, 4)),
    "readable": (transformers.readable, (5, 8)),
}


def run_shapes(model, x):
    """Shapes of every tensor that some node computes."""
    told = onnx.ModelProto()
    told.CopyFrom(model)
    del told.graph.output[:]
    names = [name for node in model.graph.node for name in node.output]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(told.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {name: value.shape for name, value in zip(names, session.run(None, {"x": x}), strict=True)}


@pytest.mark.parametrize(("batch", "images"), [("n", 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("name", MODELS)
def test_shapes_of_a_run(name, batch, images):
    make, sides = MODELS[name]
    model = make(batch)
    found = tensor_shapes(model)
    expected = run_shapes(model, np.ones((images, *sides), np.float32))
    # Multipliers, zero points and scales of readable blocks: nothing but their own reader looks at them.
    inner = {name for node in model.graph.node for name in node.output[1:]}
    assert {tensor: found.get(tensor) for tensor in expected if tensor not in inner} == {
        tensor: shape for tensor, shape in expected.items() if tensor not in inner
    }
    assert found["x"] == (images, *sides)
    assert image_count(model.graph) == images


def test_groups_of_the_readable_form():
    model = readable_model()
    assert tensor_shapes(model).items() >= run_shapes(model, np.ones((1, 5, 4), np.float32)).items()


def test_what_cannot_be_known_is_left_out():
    model = lowered_model()
    model.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    assert "y" not in tensor_shapes(model)


def test_large_constants_are_not_copied():
    """The model that shapes are inferred on has their sizes only: it may not outgrow what protobuf can hold."""
    model = transformers.vit()
    large = np.zeros((512, 1 << 12), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(large, "large"))
    model.graph.node.append(onnx.helper.make_node("Transpose", ["large"], ["turned"]))
    assert tensor_shapes(model)["turned"] == (1 << 12, 512)
