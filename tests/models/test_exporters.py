"""Exporting timm models: what is written, and every way it can fail."""

import builtins
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler.errors import ModelFileError, OptionError, OutputPathError
from qcompiler.models.exporters import export, load_weights, read_state
from qcompiler.models.extras import require, require_timm

NAME = "vit_tiny_patch16_224"


def no_rest(folder):
    """Nothing lies in the folder, hidden or not."""
    return list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def small_timm(timm):
    """timm with one more model: a ViT small enough to export in a second."""
    vit = importlib.import_module("timm.models.vision_transformer")
    registry = importlib.import_module("timm.models._registry")
    if not timm.is_model("vit_test_small"):

        def vit_test_small(pretrained=False, **kwargs):
            sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 5}
            model = vit.VisionTransformer(**sizes)
            model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3}
            return model

        vit_test_small.__module__ = vit.__name__
        registry.register_model(vit_test_small)
    return timm


def run(path, images):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]


@pytest.mark.parametrize("exporter", ["legacy", pytest.param("dynamo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch", ["symbolic", 1, 3])
def test_written_model_is_the_torch_model(small_timm, tmp_path, exporter, batch):
    torch = pytest.importorskip("torch")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript")
    trained = small_timm.create_model("vit_test_small").eval()
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    out = tmp_path / "out"
    result = export("timm:vit_test_small", out / "m.onnx", tmp_path / "w.pt", exporter, batch)

    assert [path.name for path in out.iterdir()] == ["m.onnx"]
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["logits"]
    assert b"site-packages" not in result.path.read_bytes()  # no folders of this machine
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert bool(first.dim_param) == (batch == "symbolic")
    for size in (1, 4) if batch == "symbolic" else (batch,):
        images = np.random.default_rng(0).standard_normal((size, 3, 32, 32)).astype(np.float32)
        with torch.no_grad():
            expected = trained(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(run(result.path, images), expected, atol=1e-5)
    assert (result.warning, result.image_shape, result.std) == (None, (3, 32, 32), (0.25, 0.25, 0.25))


def test_random_weights_are_the_same_every_time_and_said(small_timm, tmp_path):
    first = export("timm:vit_test_small", tmp_path / "a.onnx")
    pytest.importorskip("torch").rand(3)
    export("timm:vit_test_small", tmp_path / "b.onnx")
    assert "random weights" in first.warning
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert first.to_dict()["path"] == str(tmp_path / "a.onnx")


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "timm:", "hub:x", ""])
def test_names_of_no_known_kind(tmp_path, model):
    with pytest.raises(OptionError, match="timm:NAME"):
        export(model, tmp_path / "m.onnx")


def test_unknown_model_suggests_close_names(small_timm, tmp_path):
    with pytest.raises(OptionError, match=r"did you mean .*vit_tiny_patch16_224"):
        export("timm:vit_tiny_patch16_22", tmp_path / "m.onnx")
    assert no_rest(tmp_path)


def test_missing_weight_file(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        export(f"timm:{NAME}", tmp_path / "m.onnx", tmp_path / "w.safetensors")


def test_weights_that_cannot_be_read(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(ModelFileError, match="cannot be read"):
            read_state(tmp_path / name)


def test_pickled_objects_are_not_executed(tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "executed").touch, ())

    torch.save({"a": Evil()}, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_checkpoints_of_training_scripts(tmp_path, key):
    torch = pytest.importorskip("torch")
    state = {"weight": torch.ones(2)}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["weight"]
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match="no state dict"):
        read_state(tmp_path / "list.pth")


def test_weights_of_another_model_name_what_differs():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    cases = [
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, "x is no parameter"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight is \[2, 4\] instead of \[2, 3\]"),
        ({name: torch.zeros(1) for name in "abcd"}, "and 3 more"),
    ]
    for state, message in cases:
        with pytest.raises(OptionError, match=message):
            load_weights(model, state, "--weights w.pth", "linear")
    load_weights(model, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, "--weights w.pth", "linear")
    assert model.bias.tolist() == [1, 1]


@pytest.mark.parametrize(("exporter", "batch", "message"), [("onnx", 1, "legacy, dynamo"), ("legacy", 0, "--batch 0")])
def test_options_that_make_no_sense(small_timm, tmp_path, exporter, batch, message):
    with pytest.raises(OptionError, match=message):
        export("timm:vit_test_small", tmp_path / "m.onnx", exporter=exporter, batch=batch)
    assert no_rest(tmp_path)


def test_failure_leaves_the_old_file(small_timm, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    (tmp_path / "m.onnx").write_text("old")

    def fail(model, args, path, **options):
        Path(path).write_text("half")
        raise RuntimeError("no such operator\nlong explanation")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(OptionError, match="legacy exporter failed: no such operator; try the other one"):
        export("timm:vit_test_small", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_output_that_cannot_be_written(small_timm, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputPathError, match="cannot be written"):
        export("timm:vit_test_small", tmp_path / "file" / "m.onnx")


def test_missing_package_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return real(name, *args, **kwargs)

    with pytest.raises(OptionError, match=r"needs the package 'no_such_package' .*pip install 'qcompile\[models\]'"):
        require("no_such_package.part", "exporting")
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setitem(sys.modules, "timm", None)
    pytest.importorskip("torch")
    with pytest.raises(OptionError, match=r"'timm'.*qcompile\[models\]"):
        require_timm("exporting")


BROKEN_TORCHVISION = """
import importlib.abc, importlib.machinery, sys

class NoLibrary(importlib.abc.MetaPathFinder):
    '''What a torchvision of another build does: its compiled library does not load.'''
    def find_spec(self, name, path, target=None):
        if name == "torchvision._C":
            return importlib.machinery.ModuleSpec(name, None)  # no loader: ImportError

import torch
sys.meta_path.insert(0, NoLibrary())
real = torch.ops.load_library
def refuse(path):
    if "torchvision" in str(path):
        raise OSError("undefined symbol")
    return real(path)
torch.ops.load_library = refuse
try:
    import torchvision
except RuntimeError as error:
    assert "torchvision::nms" in str(error), error
    print("does not import")
from qcompiler.models.extras import require_timm
print(require_timm("the test").is_model("vit_tiny_patch16_224"))
"""


@pytest.mark.slow
def test_timm_beside_a_torchvision_that_does_not_load(timm):
    done = subprocess.run([sys.executable, "-c", BROKEN_TORCHVISION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "True"
    if "does not import" not in done.stdout:
        pytest.skip("this torchvision imports without its library")


@pytest.mark.slow
def test_weights_as_safetensors_and_the_preprocessing_of_a_published_model(timm, tmp_path):
    saving = pytest.importorskip("safetensors.torch")
    state = timm.create_model(NAME).state_dict()
    state["head.bias"][7] = 1000.0
    saving.save_file(state, tmp_path / "w.safetensors")
    result = export(f"timm:{NAME}", tmp_path / "m.onnx", tmp_path / "w.safetensors")
    assert result.warning is None
    assert (result.mean, result.std) == ((0.5,) * 3, (0.5,) * 3)
    assert run(result.path, np.zeros((1, 3, 224, 224), np.float32)).argmax() == 7
    assert 20e6 < result.path.stat().st_size < 25e6
