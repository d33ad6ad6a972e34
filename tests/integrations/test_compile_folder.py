"""`qcompile DIR`: a folder as Hugging Face Optimum keeps it, in and out."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from qcompiler.cli import main
from tests.driver.tiny import tiny

CONFIG = {
    "do_resize": True,
    "size": {"height": 8, "width": 8},
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.25],
    "image_std": [0.5],
}
STOP = ["--stop-after", "canonicalise", "--json"]


@pytest.fixture
def folder(tmp_path):
    """model.onnx beside its configuration files."""
    path = tmp_path / "in"
    path.mkdir()
    onnx.save(tiny(), path / "model.onnx")
    (path / "preprocessor_config.json").write_text(json.dumps(CONFIG))
    (path / "config.json").write_text('{"model_type": "vit"}')
    (path / "README.md").write_text("a card")
    return path


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    draw = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(draw.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(path / f"{index}.png")
    return path


def test_folder_to_folder(folder, images, tmp_path, capsys):
    """The preprocessing is the configuration's, and the configuration goes along."""
    target = tmp_path / "out"
    assert main([str(folder), "-o", str(target), "--calib", str(images), *STOP]) == 0
    report = json.loads(capsys.readouterr().out)
    used = report["calibration"]["preprocessing"]
    assert (used["resize"], used["crop"], used["interpolation"], used["stretch"]) == (8, 8, "bicubic", True)
    np.testing.assert_allclose([used["mean"], used["std"]], [[0.25] * 3, [0.5] * 3])
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.onnx", "preprocessor_config.json"]
    for name in ("config.json", "preprocessor_config.json"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()
    onnx.checker.check_model(str(target / "model.onnx"))


def test_without_output_the_model_lies_beside(folder, images):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([str(folder), "--calib", str(images), *STOP]) == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) - set(before) == {"model.auto.onnx"}
    assert before.items() <= after.items()


def test_output_file(folder, images, tmp_path):
    assert main([str(folder), "-o", str(tmp_path / "one.onnx"), "--calib", str(images), *STOP]) == 0
    assert (tmp_path / "one.onnx").is_file() and not (tmp_path / "config.json").exists()


def test_flags_go_before_the_configuration(folder, images, capsys):
    (folder / "preprocessor_config.json").write_text("{")
    words = [str(folder), "--calib", str(images), "--preset", "half", *STOP]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["calibration"]["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


def test_the_same_folder_is_refused(folder, images, capsys):
    before = (folder / "model.onnx").read_bytes()
    assert main([str(folder), "-o", str(folder), "--calib", str(images), *STOP]) == 2
    assert "is a file that is read" in capsys.readouterr().err
    assert (folder / "model.onnx").read_bytes() == before


def test_a_failure_leaves_no_folder(folder, tmp_path, capsys):
    target = tmp_path / "out"
    assert main([str(folder), "-o", str(target), "--calib", str(tmp_path / "missing"), *STOP]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert not target.exists()


def test_folders_without_one_model(tmp_path, capsys):
    assert main([str(tmp_path), *STOP]) == 2
    assert "holds no .onnx file" in capsys.readouterr().err
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    assert main([str(tmp_path), *STOP]) == 2
    assert "holds 2 .onnx files" in capsys.readouterr().err
