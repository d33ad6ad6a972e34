"""`qcompile export timm:NAME`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.models import exporters


@pytest.fixture
def exported(monkeypatch):
    """The exporter replaced: the arguments that reached it."""
    calls = []

    def export(model, output, weights=None, exporter="legacy", batch="symbolic"):
        calls.append((model, output, weights, exporter, batch))
        name = model.partition(":")[2]
        means = (0.5, 0.5, 0.5)
        return exporters.Exported(Path(output), name, exporter, batch, (3, 224, 224), means, means, "random weights")

    monkeypatch.setattr(exporters, "export", export)
    return calls


def test_arguments(cli, exported, tmp_path):
    words = ["--weights", "w.safetensors", "--exporter", "dynamo", "--batch", "8"]
    done = cli("export", "timm:vit_tiny", "-o", tmp_path / "m.onnx", *words)
    assert done.code == 0
    assert exported == [("timm:vit_tiny", tmp_path / "m.onnx", Path("w.safetensors"), "dynamo", 8)]
    assert "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5" in done.out
    assert done.err == "qcompile: warning: random weights\n"


def test_defaults(cli, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("export", "timm:vit_tiny").code == 0
    assert exported == [("timm:vit_tiny", Path("vit_tiny.onnx"), None, "legacy", "symbolic")]


def test_json(cli, exported, tmp_path):
    values = json.loads(cli("export", "timm:vit_tiny", "-o", tmp_path / "m.onnx", "--json").out)
    assert (values["model"], values["path"]) == ("vit_tiny", str(tmp_path / "m.onnx"))


def test_weights_are_never_overwritten(cli, exported, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.touch()
    assert cli("export", "timm:vit_tiny", "--weights", weights, "-o", weights).code == 2
    assert exported == []


def test_without_torch_the_error_names_the_extra(tmp_path):
    code = "import sys\nfor name in ('torch', 'timm'): sys.modules[name] = None\n"
    code += "from qcompiler.cli import main; sys.exit(main(['export', 'timm:vit_tiny_patch16_224', '-o', 'm.onnx']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("qcompile: error: ")
    assert "pip install 'qcompile[models]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
