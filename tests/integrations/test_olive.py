"""The pass inside the real Olive: a workflow's JSON, and a data set of the workflow."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from tests.driver.tiny import images, save

if importlib.util.find_spec("olive") is None:
    pytest.skip("Microsoft Olive is not installed (pip install olive-ai)", allow_module_level=True)

OPTIONS = {"bits": "w8a8", "effort": "low", "executor": "inline", "threads": 1}


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setenv("OLIVE_DISABLE_TELEMETRY", "1")


def relative_error(model, reference):
    """Of the logits on other images than those of the calibration."""
    feed = {"x": images(8, seed=5)}
    found, expected = (onnxruntime.InferenceSession(str(path)).run(None, feed)[0] for path in (model, reference))
    return np.square(found - expected).sum() / np.square(expected).sum()


def test_workflow(tmp_path, quiet):
    """`olive run` with a package configuration that knows the pass beside Olive's own."""
    model = save(tmp_path)
    workflow = {
        "input_model": {"type": "ONNXModel", "model_path": str(model)},
        "passes": {
            "quantize": {"type": "QCompile", "calibration": str(tmp_path / "tiny.calib.npz"), **OPTIONS},
        },
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
    }
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    command = [sys.executable, "-m", "qcompiler.integrations.olive_package", "package.json"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert {"QCompile", "OnnxConversion"} <= set(json.loads((tmp_path / "package.json").read_text())["passes"])
    command = [sys.executable, "-m", "olive", "run", "--config", "workflow.json", "--package-config", "package.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = (tmp_path / "out").rglob("*.onnx")
    assert 0 < relative_error(written, model) < 0.01  # zero would be the float model


def test_data_of_the_workflow(tmp_path, quiet):
    """A data set that Olive loads and batches gives the calibration images, with labels that are left out."""
    import torch
    from olive.data.config import DataConfig
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict

    from qcompiler.integrations.olive import QCompile

    model = save(tmp_path)
    (tmp_path / "tiny.calib.npz").unlink()

    @Registry.register_dataset()
    def tiny_images(**parameters):
        return torch.utils.data.TensorDataset(torch.from_numpy(images(12)), torch.zeros(12))

    data = DataConfig(
        name="tiny",
        type="DataContainer",
        load_dataset_config={"type": "tiny_images"},
        dataloader_config={"params": {"batch_size": 4}},
    )
    made = create_pass_from_dict(QCompile, {"data_config": data, **OPTIONS}, disable_search=True)
    result = made.run(ONNXModelHandler(str(model)), str(tmp_path / "out"))
    assert result.model_path.endswith("model.onnx")
    assert 0 < relative_error(result.model_path, model) < 0.01


def test_options_are_checked(tmp_path, quiet):
    """A value that makes no sense is qcompile's own error, before any work."""
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict

    from qcompiler.errors import OptionError
    from qcompiler.integrations.olive import QCompile

    made = create_pass_from_dict(QCompile, {"method": "magic"}, disable_search=True)
    with pytest.raises(OptionError, match="--method 'magic' is unknown"):
        made.run(ONNXModelHandler(str(save(tmp_path))), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
