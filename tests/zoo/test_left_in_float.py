"""What is not recognised stays in float with its reason, and the rest is quantized: models written by hand."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler import CompileOptions, compile_model
from qcompiler.driver.runtime import quantized_session

from ..passes.helpers import model_of, weight
from ..passes.small_models import small_vit

METHODS = {
    "igq": {"method": "igq", "bits": "w8a8", "group_candidates": (4,)},
    "auto": {"bop_budget": 1.0},
    "auto, low": {"bop_budget": 1.0, "effort": "low"},
    "lrp": {"method": "lrp", "bits": "w8a8"},
}
# Two outputs behind one trunk; what is added to it holds integers copied for every image.
BRANCHES = """agraph (float[batch, 3, 4, 4] x) => (float[batch, 5] y, float[batch, 6] z) {
    f = Flatten (x)  a = MatMul (f, w1)  r = Relu (a)
    shape = Shape <start = 0, end = 1> (x)  target = Concat <axis = 0> (shape, width)
    copies = Expand (numbers, target)  floats = Cast <to = 1> (copies)  s = Add (r, floats)
    b = MatMul (s, w2)  c = Relu (b)  d = MatMul (s, w3)  e = Tanh (d)
    y = MatMul (c, w4)  z = MatMul (e, w5) }"""
WEIGHTS = {
    "w1": weight(48, 16, scale=0.2),
    "w2": weight(16, 16, seed=1, scale=0.3),
    "w3": weight(16, 16, seed=2, scale=0.3),
    "w4": weight(16, 5, seed=3),
    "w5": weight(16, 6, seed=4),
    "width": np.array([16]),
    "numbers": np.arange(16) % 3,
}


def compiled(model, folder, **options):
    np.savez(folder / "images.npz", x=weight(8, 3, 4, 4))
    quick = {"executor": "inline", "threads": 1, "probe_images": 4, "trial_images": 4}
    return compile_model(model, CompileOptions(**quick, **options), str(folder / "images.npz"))


def errors(model, result):
    feed = {"x": weight(6, 3, 4, 4, seed=9)}
    expected = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)
    found = quantized_session(result.model, 1).run([output.name for output in model.graph.output], feed)
    return [np.linalg.norm(y - x) / np.linalg.norm(x) for y, x in zip(found, expected, strict=True)]


@pytest.mark.parametrize("method", METHODS)
def test_attention_of_another_kind(tmp_path, method):
    model = small_vit(scores="sc2 = Tanh (sc)")
    result = compiled(model, tmp_path, **METHODS[method])
    report = result.report
    assert [layer.kind for layer in report.layers] == ["patch_embed", "other", "other", "fc1", "fc2", "head"]
    assert {item.reason for item in report.coverage.left} == {
        "attention: the scores are changed by node 'sc2/Tanh' (Tanh)"
    }
    assert [item.op for item in report.coverage.left] == ["MatMul", "MatMul"]
    assert max(errors(model, result)) <= 0.04  # what 8 bits leave


@pytest.mark.parametrize("method", METHODS)
def test_several_outputs_and_a_shape_that_stays(tmp_path, method):
    model = model_of(BRANCHES, **WEIGHTS)
    result = compiled(model, tmp_path, **METHODS[method])
    assert len(result.report.layers) == 5
    assert any(node.op_type == "Expand" for node in result.model.graph.node)
    assert max(errors(model, result)) <= 0.04  # what 8 bits leave
    onnx.checker.check_model(result.model, full_check=False)


@pytest.mark.parametrize("method", ["auto", "auto, low"])
def test_every_output_counts(tmp_path, method):
    """A narrow budget must not starve the branch of the second output."""
    result = compiled(model_of(BRANCHES, **WEIGHTS), tmp_path, **METHODS[method] | {"bop_budget": 0.3})
    found = {layer.name: layer for layer in result.report.layers}
    assert found["MatMul_10"].sensitivity > 0
    if method == "auto":  # low effort tries no plan out
        assert result.report.loss > 0
