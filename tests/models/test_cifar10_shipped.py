"""The shipped CIFAR-10 weights: small, exported with everything that a transformer has, and robust to 4 bits."""

from importlib.resources import as_file, files
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

from qcompiler.calibration.synthetic import natural_image
from qcompiler.driver import compile_model
from qcompiler.models import cifar10
from qcompiler.models.cifar10_models import CLASSES, IMAGE
from qcompiler.options import CompileOptions

# Architecture -> bytes of the weights, linear layers (head included), attention blocks, largest share left in float.
SHIPPED = {"vit": (900_000, 21, 5, 0.07), "swin": (1_900_000, 27, 6, 0.1)}


class Reader:
    """Synthetic images, one by one; no image of the data set ships."""

    def __init__(self, count):
        self.feeds = [{"input": 2 * natural_image(seed, *IMAGE)[None] - 1} for seed in range(count)]
        self.rewind()

    def get_next(self):
        return next(self.rest, None)

    def rewind(self):
        self.rest = iter(self.feeds)


@pytest.fixture(scope="module", params=sorted(SHIPPED))
def shipped(request, timm, tmp_path_factory):
    """One architecture, exported, and compiled to the cost of W4A4."""
    arch = request.param
    folder = tmp_path_factory.mktemp(arch)
    with as_file(files("qcompiler.models")) as models:
        weights = models / f"cifar10_{arch}.safetensors"
        cifar10.export(arch, weights, folder)
        size = weights.stat().st_size
    path = folder / f"cifar10_{arch}.onnx"
    options = CompileOptions(
        bop_budget=0.25, effort="low", executor="inline", images=16, probe_images=2, trial_images=4, threads=1
    )
    result = compile_model(path, options, Reader(16))
    return SimpleNamespace(arch=arch, size=size, path=path, result=result)


def test_weights_are_small(shipped):
    assert 100_000 < shipped.size < SHIPPED[shipped.arch][0]


def test_every_layer_is_found(shipped):
    _, linears, attentions, in_float = SHIPPED[shipped.arch]
    report = shipped.result.report
    assert len(report.layers) == linears + attentions
    assert sum(layer.name.endswith("attn") for layer in report.layers) == attentions
    # The two convolutions of the stem, and nothing else.
    assert [product.op for product in report.coverage.left] == ["Conv", "Conv"]
    assert 1 - report.coverage.quantized / report.coverage.macs < in_float
    assert report.bops.fraction_of_w8a8 <= 0.25


def test_predictions_survive(shipped):
    images = np.stack([2 * natural_image(seed, *IMAGE) - 1 for seed in range(1000, 1050)])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    found, expected = (
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
        for model in (shipped.result.model.SerializeToString(), str(shipped.path))
    )
    assert found.shape == (50, CLASSES)
    assert len(set(expected.argmax(1))) >= 3  # the images are no photographs, but they do not all look alike
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.75
    centred = expected - expected.mean(1, keepdims=True)
    assert np.linalg.norm(found - expected) / np.linalg.norm(centred) < 0.25
