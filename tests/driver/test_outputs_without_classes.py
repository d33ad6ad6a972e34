"""Models whose outputs are no class scores: what is compared, what is refused, and models of hardly any layer."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler.driver import compile_model
from qcompiler.driver.comparison import OutputsComparison, compare_accuracy
from qcompiler.errors import CollapseError, OptionError
from qcompiler.report.metadata import read_report

from ..passes.helpers import model_of, weight
from .runs import fast, native, relative

MAP = """agraph (float[batch, 3, 4, 4] x) => (float[batch, 16, 3] y, float[batch, 5] z) {
    p = Transpose <perm = [0, 2, 3, 1]> (x)  t = Reshape (p, tokens)
    a = MatMul (t, w1)  r = Relu (a)  b = MatMul (r, w2)  s = Relu (b)  y = MatMul (s, w3)
    m = ReduceMean <keepdims = 0> (s, rows)  z = MatMul (m, w4) }"""
WEIGHTS = {
    "tokens": np.array([0, 16, 3]),
    "rows": np.array([1]),
    "w1": weight(3, 16),
    "w2": weight(16, 16, seed=1, scale=0.3),
    "w3": weight(16, 3, seed=2),
    "w4": weight(16, 5, seed=3),
}
HEAD = "agraph (float[batch, 3, 4, 4] x) => (float[batch, 5] y) { f = Flatten (x)  y = MatMul (f, w) }"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=weight(8, 3, 4, 4, seed=7))
    return path


@pytest.fixture(scope="module")
def maps():
    return model_of(MAP, **WEIGHTS)


@pytest.fixture(scope="module")
def compiled(maps, images):
    return compile_model(maps, fast(bits="w8a8", method="igq"), images)


def outputs(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.load(images)["x"]})


def numbers(values):
    return {name: value for name, value in values.items() if value is not None}


def test_every_output_is_reported(maps, compiled, images):
    agreement = compiled.report.agreement
    assert list(agreement["outputs"]) == ["y", "z"]
    assert agreement["outputs"]["y"]["agreement"] is None
    assert agreement["outputs"]["z"]["agreement"] == agreement["agreement"]
    found = outputs(compiled.model, images)
    for name, expected, y in zip(("y", "z"), outputs(maps, images), found, strict=True):
        # ONNX Runtime runs the bodies of the operators here, which add floats in another order.
        assert agreement["outputs"][name]["relative_error"] == pytest.approx(relative(y, expected), rel=0.05)
    worst = max(item["relative_error"] for item in agreement["outputs"].values())
    assert agreement["relative_error"] == agreement["outputs"][agreement["worst"]]["relative_error"] == worst
    assert read_report(compiled.model).agreement == agreement


@pytest.mark.parametrize(
    ("broken", "message"), [("y", r"output 'y' whose relative error is 2\.0"), ("z", "in output 'z'")]
)
def test_a_collapse_of_any_output(monkeypatch, maps, images, broken, message):
    """The quantized model gives the negative of one output."""
    import qcompiler.driver.compile as compiling

    float_outputs, made = compiling.float_outputs, []

    def turned(session):
        run = float_outputs(session)
        made.append(run)
        return run if len(made) % 2 else lambda feed: (found := run(feed)) | {broken: -found[broken]}

    monkeypatch.setattr(compiling, "float_outputs", turned)
    with pytest.raises(CollapseError, match=message):
        compile_model(maps, fast(bits="w8a8", method="igq"), images)


def test_models_without_classes_are_compared_by_their_outputs(maps, compiled, images, tmp_path):
    onnx.save(maps, tmp_path / "float.onnx")
    compiled.save(tmp_path / "int.onnx")
    paths = [tmp_path / "float.onnx", tmp_path / "int.onnx"]
    found = compare_accuracy(paths, images)
    assert isinstance(found, OutputsComparison)
    for name, output in found.results["int.onnx"].outputs.items():
        expected = compiled.report.agreement["outputs"][name]
        assert numbers(output.to_dict()) == pytest.approx(numbers(expected), rel=1e-3)
        assert (output.agreement is None) == (expected["agreement"] is None)
    assert found.to_dict()["models"][0]["path"] == str(paths[1])
    with pytest.raises(OptionError, match="name a model to compare"):
        compare_accuracy(paths[:1], images)


@pytest.mark.parametrize(
    ("options", "most"),
    [({"bits": "w8a8", "method": "igq"}, 0.02), ({"bop_budget": 1.0}, 0.02), ({"method": "lrp"}, 0.3)],
    ids=["8 bits", "budget of 8 bits", "budget of 4 bits"],
)
def test_a_model_of_one_linear_layer(images, options, most):
    model = model_of(HEAD, w=weight(48, 5, seed=2))
    result = compile_model(model, fast(**options), images)
    (layer,) = result.report.layers
    assert not layer.fixed
    assert result.report.bops.fixed == 0
    x = np.load(images)["x"]
    expected = x.reshape(8, 48) @ weight(48, 5, seed=2)
    assert relative(native(result.model, {"x": x}), expected) <= most
