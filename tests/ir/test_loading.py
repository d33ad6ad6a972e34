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


def test_non_finite_constant_is_named():
    text = "agraph (float[4] x) => (float[4] y) { c = Constant <value = float {1.0}> ()  y = Add (x, c) }"
    model = model_of(text)
    model.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.array(np.nan, np.float32)))
    with pytest.raises(NonFiniteError, match="weight 'c'"):
        load_model(model)
