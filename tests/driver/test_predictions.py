"""Bias correction of predictions: which layers it is for, and what is written."""

import numpy as np
import onnx
import pytest

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.readers import open_calibration
from qcompiler.driver import compile_model, predictions
from qcompiler.driver.predictions import correct_predictions, predicting_layers
from qcompiler.errors import NonFiniteError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.structure import find_structure
from qcompiler.progress import Silent
from qcompiler.quant.plan import QuantPlan

from ..passes.helpers import model_of, weight
from .runs import fast, plain
from .tiny import images, tiny

WEIGHTS = {"w": weight(4, 3), "w2": weight(3, 3, seed=1), "b": weight(3, seed=2)}


def found(text):
    model = model_of(text, **WEIGHTS)
    return predicting_layers(model, find_structure(to_graph(model)))


def test_layers_that_write_one_row_of_scores_per_image():
    head = "[fc] m = MatMul (x, w)  y = Add (m, b)"
    assert found(f"agraph (float[n, 4] x) => (float[n, 3] y) {{ {head} }}") == {"y": "fc"}
    both = f"agraph (float[n, 4] x) => (float[n, 3] y, float[n, 3] z) {{ {head}  [second] z = MatMul (y, w2) }}"
    assert found(both) == {"y": "fc", "z": "second"}


def test_other_layers():
    """Rows of tokens, and what still passes through an operator."""
    rows = "agraph (float[n, 5, 4] x) => (float[n, 5, 3] y) { [fc] m = MatMul (x, w)  y = Add (m, b) }"
    assert found(rows) == {}
    softmax = "agraph (float[n, 4] x) => (float[n, 3] y) { [fc] m = MatMul (x, w)  a = Add (m, b)  y = Softmax (a) }"
    assert found(softmax) == {}


@pytest.fixture(scope="module")
def compiled(tiny_path):
    return compile_model(tiny_path, fast(bits="w2a8", method="igq", images=24, allow_collapse=True))


def applied(result):
    (done,) = (item.applied for item in result.report.passes if item.name == "correct_bias")
    return done


def bias_of(model):
    (bias,) = (item for item in model.graph.initializer if item.name.startswith("head") and "bias" in item.name)
    return onnx.numpy_helper.to_array(bias)


def test_the_mean_prediction_is_that_of_the_float_model(compiled):
    """On the calibration images, but for codes that the kernels flip; without the correction it is far off."""
    assert applied(compiled) == 1
    feed = {"x": images(24)}
    reference, corrected = plain(tiny(), feed), plain(compiled.model, feed)
    shift = bias_of(compiled.model) - bias_of(tiny())
    error = np.abs((reference - corrected).mean(axis=0)).max()
    before = np.abs((reference - (corrected - shift)).mean(axis=0)).max()
    assert error < 0.2 * before


def test_nothing_is_corrected_without_images(tmp_path):
    """Synthetic images say nothing of the mean error on others."""
    onnx.save(tiny(), tmp_path / "m.onnx")
    assert applied(compile_model(tmp_path / "m.onnx", fast(bits="w2a2", method="igq", allow_collapse=True))) == 0


class Model:
    """A session whose prediction is the mean of each image's pixels, off by a constant."""

    def __init__(self, *error):
        self.error = np.float32(error)

    def run(self, names, feed):
        means = feed["x"].mean(axis=(1, 2, 3))
        return [np.stack([means, -means], axis=1) + self.error for _ in names]


class Told(Silent):
    images = 0

    def advance(self, count=1):
        self.images += count


def correct(monkeypatch, reader, count, quantized):
    monkeypatch.setattr(predictions, "built", lambda *_: None)
    monkeypatch.setattr(predictions, "quantized_session", lambda *_: quantized)
    progress = Told()
    plan = correct_predictions(QuantPlan({}, {}), {"y": "fc"}, None, Model(0, 0), reader, count, 1, progress)
    return plan.corrections, progress.images


@pytest.mark.parametrize(("batch", "count", "seen"), [(1, None, 7), (1, 5, 5), (2, 7, 7), (4, 6, 6), (4, None, 8)])
def test_images_that_count(monkeypatch, tmp_path, batch, count, seen):
    """All of them or as many as are asked for; of a batch that is filled up only the images that are told of."""
    np.savez(tmp_path / "seven.npz", x=images(7))
    source = open_calibration(tmp_path / "seven.npz", (ModelInput("x", (batch, 1, 8, 8), "float32"),), None, 100)
    corrections, told = correct(monkeypatch, source.reader, count, Model(0.5, -0.25))
    assert told == seen
    np.testing.assert_allclose(corrections["fc"], [-0.5, 0.25], atol=1e-6)


def test_nan(monkeypatch, tmp_path):
    np.savez(tmp_path / "seven.npz", x=images(7))
    source = open_calibration(tmp_path / "seven.npz", (ModelInput("x", (1, 1, 8, 8), "float32"),), None, 100)
    with pytest.raises(NonFiniteError, match="quantized"):
        correct(monkeypatch, source.reader, None, Model(np.nan, 0))
