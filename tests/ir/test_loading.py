import numpy as np
import onnx
import pytest

from qcompiler.errors import ModelFileError, NonFiniteError
from qcompiler.ir.loading import load_model
from tests.passes.helpers import model_of, weight

TEXT = "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = MatMul (x, w) }"


def test_path_and_model_are_read(tmp_path):
    model = model_of(TEXT, w=weight(4, 4))
    onnx.save(model, tmp_path / "model.onnx")
    assert load_model(tmp_path / "model.onnx") == model
    assert load_model(str(tmp_path / "model.onnx")) == model
    copy = load_model(model)
    assert copy == model
    assert copy is not model


def test_external_data_is_read(tmp_path):
    model = model_of(TEXT, w=weight(4, 4))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    loaded = load_model(tmp_path / "model.onnx")
    assert np.array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), weight(4, 4))
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelFileError, match=r"external data of .* keep it beside the model"):
        load_model(tmp_path / "model.onnx")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist"):
        load_model(tmp_path / "nothing.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_not_a_model(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match="is not an ONNX"):
        load_model(tmp_path / "model.onnx")


def test_checker_failure_is_reported():
    model = model_of(TEXT, w=weight(4, 4))
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelFileError, match=r"the ONNX checker refuses the model: .*NoSuchOperator"):
        load_model(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weight_is_named(value):
    values = weight(4, 4)
    values[1, 2] = value
    with pytest.raises(NonFiniteError, match="weight 'w' holds 1 values"):
        load_model(model_of(TEXT, w=values))


NORM = "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = LayerNormalization <axis = -1> (x, scale, bias) }"


@pytest.mark.parametrize("empty", ["scale", "bias"])
def test_parameter_without_values_is_named(empty):
    """ONNX Runtime runs a LayerNormalization with such a bias."""
    values = {"scale": weight(4), "bias": weight(4)}
    load_model(model_of(NORM, **values))
    values[empty] = np.zeros(0, np.float32)
    message = rf"weight '{empty}' of node '\w+' \(LayerNormalization\) holds no values: its shape is \[0\]"
    with pytest.raises(ModelFileError, match=message):
        load_model(model_of(NORM, **values))


def test_constant_without_values_is_named():
    text = "agraph (float[3, 4] x) => (float[3, 5] y) { b = Constant <value = float[0] {}> ()  y = Gemm (x, w, b) }"
    with pytest.raises(ModelFileError, match=r"weight 'b' of node 'Gemm_1' \(Gemm\)"):
        load_model(model_of(text, w=weight(4, 5)))


def test_a_constant_may_mean_to_have_no_values():
    text = """agraph (float[1, 1, 4, 4] x) => (float[1, 1, 8, 8] y) {
        y = Resize <mode = "nearest"> (x, roi, scales)
    }"""
    load_model(model_of(text, roi=np.zeros(0, np.float32), scales=np.array([1, 1, 2, 2], np.float32)))


def test_non_finite_constant_is_named():
    text = "agraph (float[4] x) => (float[4] y) { c = Constant <value = float {1.0}> ()  y = Add (x, c) }"
    model = model_of(text)
    model.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.array(np.nan, np.float32)))
    with pytest.raises(NonFiniteError, match="weight 'c'"):
        load_model(model)
