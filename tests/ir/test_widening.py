"""Half precision becomes float32 everywhere, and nothing else changes."""

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir.widening import widen
from tests.passes.helpers import model_of, weight

NESTED = """agraph (float16[4] x, bool c) => (float16[4] y) {
    k = Constant <value = float16[2] {1, 2}> ()
    f = Cast <to = 1> (x)
    h = Cast <to = 10> (f)
    y = If (c) <
        then_branch = g1 () => (float16[4] a) { two = Constant <value = float16[1] {2}> ()  a = Mul (h, two) },
        else_branch = g2 () => (float16[4] b) { b = Identity (h) }
    >
}"""


def test_nothing_is_left_in_subgraphs_attributes_and_types():
    model = model_of(NESTED)
    assert widen(model) == ("float16",)
    onnx.checker.check_model(model, full_check=True)
    text = str(model)
    assert "elem_type: 10\n" not in text
    assert "data_type: 10\n" not in text
    assert "i: 10\n" not in text
    assert widen(model) == ()


@pytest.mark.parametrize(
    ("dtype", "name"), [(np.float16, "float16"), (ml_dtypes.bfloat16, "bfloat16")], ids=["float16", "bfloat16"]
)
def test_values_stay_what_they_are(dtype, name):
    text = "agraph (float[b, 4] x) => (float[b, 4] y) { y = MatMul (x, w) }"
    values = weight(4, 4).astype(dtype)
    model = model_of(text)
    model.graph.initializer.append(numpy_helper.from_array(values, "w"))
    assert widen(model) == (name,)
    found = numpy_helper.to_array(model.graph.initializer[0])
    assert found.dtype == np.float32
    assert np.array_equal(found, values.astype(np.float32))


def test_a_float32_model_is_not_changed():
    model = model_of("agraph (float[b, 4] x) => (float[b, 4] y) { y = MatMul (x, w) }", w=weight(4, 4))
    before = model.SerializeToString()
    assert widen(model) == ()
    assert model.SerializeToString() == before


def test_integers_that_look_like_types_stay():
    """`axis = 10` names no element type; `dtype` of integers does, but not a narrow one."""
    model = onnx.ModelProto()
    node = helper.make_node("Softmax", ["x"], ["y"], axis=10)
    model.graph.node.append(node)
    model.graph.node.append(helper.make_node("Cast", ["y"], ["z"], to=TensorProto.INT64))
    assert widen(model) == ()
    assert model.graph.node[0].attribute[0].i == 10


def test_functions_are_widened():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        agraph (float[4] x) => (float[4] y) { y = local.half (x) }
        <domain: "local", opset_import: ["": 21]>
        half (a) => (b) { b = Cast <to = 16> (a) }"""
    )
    assert widen(model) == ("bfloat16",)
    assert model.functions[0].node[0].attribute[0].i == TensorProto.FLOAT


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("exact", [2**0.5, 0.5**0.5, (2 / np.pi) ** 0.5, 0.044715])
def test_scalars_of_gelu_get_their_digits_back(dtype, exact):
    model = onnx.ModelProto()
    values = np.array([exact], dtype)
    model.graph.initializer.append(numpy_helper.from_array(values, "s"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([exact, exact], dtype), "two"))
    widen(model)
    scalar, pair = map(numpy_helper.to_array, model.graph.initializer)
    assert scalar.tolist() == [np.float32(exact)]
    assert pair.tolist() == values.astype(np.float32).tolist() * 2
