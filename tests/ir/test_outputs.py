import numpy as np
import onnx

from qcompiler.ir.outputs import with_outputs

from ..passes.helpers import model_of, run

TEXT = """agraph (float[batch, 3] x) => (float[batch, 3] y) {
    a = Relu (x)  b = Neg (a)  y = Add (a, b) }"""
X = {"x": np.array([[1, -2, 3]], np.float32)}


def names(model):
    return [output.name for output in model.graph.output]


def test_inner_tensors_come_behind_the_outputs_in_the_order_asked_for():
    model = with_outputs(model_of(TEXT), ["b", "a"])
    assert names(model) == ["y", "b", "a"]
    for result, expected in zip(run(model, X), ([0, 0, 0], [-1, 0, -3], [1, 0, 3]), strict=True):
        np.testing.assert_array_equal(result, [expected])


def test_the_model_itself_is_not_changed():
    model = model_of(TEXT)
    before = model.SerializeToString(deterministic=True)
    with_outputs(model, ["a"])
    assert model.SerializeToString(deterministic=True) == before


def test_what_is_an_output_already_is_not_added_again():
    assert names(with_outputs(model_of(TEXT), ["y", "a", "a"])) == ["y", "a"]
    assert with_outputs(model_of(TEXT), []) == model_of(TEXT)


def test_any_iterable():
    assert names(with_outputs(model_of(TEXT), (name for name in ("a", "b")))) == ["y", "a", "b"]


def test_other_types_are_declared():
    model = model_of("agraph (float[batch, 3] x) => (int64[2] y) { s = Shape (x)  y = Neg (s) }")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.INT64, None))
    assert [value.tolist() for value in run(with_outputs(model, ["s"]), X)] == [[-1, -3], [1, 3]]
