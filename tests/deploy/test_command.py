"""`qcompile deploy` as users start it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from qcompiler.cli import main

from .small_models import identity


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(identity("x", "y", TensorProto.FLOAT, ("n", 3)), path)
    return path


def run(*words: object) -> int:
    return main(["deploy", *map(str, words)])


def test_text(model, tmp_path, capsys):
    assert run(model, "--target", "mlserver", "--repository", tmp_path / "r") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in ("m, version 1, for mlserver", "1 to 32", str(tmp_path / "r" / "m" / "README.md")):
        assert part in out


def test_json(model, tmp_path, capsys):
    words = ["--target", "docker", "--server", "triton", "--name", "vit", "--json"]
    assert run(model, *words, "--repository", tmp_path / "r") == 0
    assert json.loads(capsys.readouterr().out) == {
        "repository": str(tmp_path / "r"),
        "model_folder": str(tmp_path / "r" / "models" / "vit"),
        "name": "vit",
        "version": 1,
        "server": "triton",
        "library": False,
        "batched": True,
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required"),
        (["m.onnx"], "--target, --repository"),
        (["m.onnx", "--target", "triton"], "--repository"),
        (["nosuch.onnx", "--target", "triton", "--repository", "r"], "does not exist"),
        (["text.onnx", "--target", "triton", "--repository", "r"], "not an ONNX file"),
        (["m.onnx", "--target", "kserve", "--repository", "r"], "--target"),
        (["m.onnx", "--target", "docker", "--repository", "r"], "--server"),
        (["m.onnx", "--target", "triton", "--repository", "r", "--name", "a/b"], "--name"),
        (["m.onnx", "--target", "triton", "--repository", "m.onnx"], "is a file"),
        (["m.onnx", "--target", "triton", "--repository", "no/r"], "does not exist; create it"),
        (["m.onnx", "--target", "triton", "--repository", "r", "--instances", "0"], "--instances"),
    ],
)
def test_what_users_can_fix_is_one_line_and_exit_code_2(model, tmp_path, words, says, capsys, monkeypatch):
    (tmp_path / "text.onnx").write_text("certainly not a protocol buffer")
    before = sorted(os.listdir(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("qcompile: error: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(os.listdir(tmp_path)) == before
