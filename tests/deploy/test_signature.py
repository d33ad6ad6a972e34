"""What is read off a model, against what ONNX Runtime says about the same model."""

from __future__ import annotations

import onnxruntime
import pytest
from onnx import TensorProto

from qcompiler.deploy.signature import signature_of
from qcompiler.errors import UnsupportedModelError

from .small_models import identity

# ONNX Runtime's words for element types, and the protocol's.
WORDS = {
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(double)": "FP64",
    "tensor(uint8)": "UINT8",
    "tensor(int8)": "INT8",
    "tensor(uint16)": "UINT16",
    "tensor(int16)": "INT16",
    "tensor(uint32)": "UINT32",
    "tensor(int32)": "INT32",
    "tensor(uint64)": "UINT64",
    "tensor(int64)": "INT64",
    "tensor(bool)": "BOOL",
}
ELEMENTS = (
    "FLOAT",
    "FLOAT16",
    "DOUBLE",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "UINT32",
    "INT32",
    "UINT64",
    "INT64",
    "BOOL",
)


@pytest.mark.parametrize("elements", ELEMENTS)
@pytest.mark.parametrize("shape", [("n", 3, 8, 8), (2, 3), ("n",), ("n", "m"), ()])
def test_as_onnx_runtime_reads_it(elements, shape):
    model = identity("x", "y", TensorProto.DataType.Value(elements), shape)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = signature_of(model.graph)
    for tensor, said in zip(
        (*found.inputs, *found.outputs), (*session.get_inputs(), *session.get_outputs()), strict=True
    ):
        assert (tensor.name, tensor.datatype) == (said.name, WORDS[said.type])
        assert tensor.shape == tuple(size if isinstance(size, int) else -1 for size in said.shape)
    assert found.batched == (shape[:1] == ("n",))


def test_weights_that_are_listed_as_inputs_are_no_inputs():
    model = identity("x", "y", TensorProto.FLOAT, (2,))
    model.graph.input.append(type(model.graph.input[0])(name="w"))
    model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1], float_data=[1.0])
    assert [tensor.name for tensor in signature_of(model.graph).inputs] == ["x"]


@pytest.mark.parametrize("elements", ["STRING", "BFLOAT16", "FLOAT8E4M3FN"])
def test_elements_that_servers_do_not_know(elements):
    with pytest.raises(UnsupportedModelError, match=f"'x' has elements of type {elements.lower()}"):
        signature_of(identity("x", "y", TensorProto.DataType.Value(elements), ("n", 2)).graph)


def test_a_tensor_without_shape():
    model = identity("x", "y", TensorProto.FLOAT, (2,))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedModelError, match="'y' has no shape"):
        signature_of(model.graph)
