"""`qcompile compile-timm NAME`."""

import json
from pathlib import Path

import onnx
import pytest

from qcompiler.cli import main
from qcompiler.models import exporters
from qcompiler.models.extras import require_timm
from tests.driver.tiny import tiny

STOP = ["--stop-after", "canonicalise", "--json"]


@pytest.fixture
def exported(monkeypatch):
    """The exporter replaced by one that needs no torch: the arguments that reached it."""
    calls = []

    def export(model, output, weights=None, exporter="legacy", batch="symbolic"):
        calls.append((model, weights, exporter, batch))
        onnx.save(tiny(), output)
        mean, std = (0.1, 0.1, 0.1), (0.2, 0.2, 0.2)
        return exporters.Exported(
            Path(output), "tiny", exporter, batch, (1, 8, 8), mean, std, "random weights", "bilinear", 0.8
        )

    monkeypatch.setattr(exporters, "export", export)
    return calls


@pytest.fixture
def images(tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for value in (10, 200):
        Image.new("RGB", (12, 12), (value, value // 2, value)).save(folder / f"{value}.png")
    return folder


def test_timm_preprocessing_and_no_float_model(exported, images, tmp_path, capsys):
    output = tmp_path / "out.onnx"
    words = ["--weights", str(tmp_path / "w.safetensors"), "--exporter", "dynamo", "--calib", str(images)]
    assert main(["compile-timm", "tiny", "-o", str(output), *words, *STOP]) == 0
    assert exported == [("timm:tiny", tmp_path / "w.safetensors", "dynamo", "symbolic")]
    found = capsys.readouterr()
    report = json.loads(found.out)
    assert report["model"] == "tiny" and "random weights" in found.err
    assert report["calibration"]["preprocessing"] == {
        "mean": [0.1] * 3,
        "std": [0.2] * 3,
        "resize": 10,  # 8 / 0.8
        "crop": 8,
        "interpolation": "bilinear",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.onnx"]


def test_float_model_is_kept_on_request(exported, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--save-float", "float.onnx", "--calib", str(images), "--preset", "none"]
    assert main(["compile-timm", "timm:tiny", *words, *STOP]) == 0
    assert exported == [("timm:tiny", None, "legacy", "symbolic")]
    assert json.loads(capsys.readouterr().out)["calibration"]["preprocessing"]["mean"] == [0.0] * 3
    assert {"float.onnx", "tiny.auto.onnx"} <= {path.name for path in tmp_path.iterdir()}


def test_weights_are_never_overwritten(exported, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.touch()
    assert main(["compile-timm", "tiny", "--weights", str(weights), "-o", str(weights)]) == 2
    assert main(["compile-timm", "tiny", "--weights", str(weights), "--save-float", str(weights)]) == 2
    assert exported == []


def test_real_architecture(tmp_path, capsys):
    """Built, exported and read with timm's own names and numbers."""
    pytest.importorskip("torch")
    try:
        timm = require_timm("the test")
    except Exception as error:
        pytest.skip(str(error))
    output = tmp_path / "vit.onnx"
    assert main(["compile-timm", "test_vit", "-o", str(output), "--images", "2", *STOP]) == 0
    report = json.loads(capsys.readouterr().out)
    config = timm.create_model("test_vit").pretrained_cfg
    assert report["calibration"]["preprocessing"]["mean"] == list(config["mean"])
    (found,) = onnx.load(output).graph.input
    assert [side.dim_value for side in found.type.tensor_type.shape.dim][1:] == list(config["input_size"])
