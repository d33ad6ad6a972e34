"""The shipped model through the whole command line: compile, inspect, evaluate, time."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

import qcompiler.models
from qcompiler.cli import main

SHIPPED = Path(qcompiler.models.__file__).parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The shipped model compiled with few images."""
    folder = tmp_path_factory.mktemp("digits")
    for name in ("digits_vit.onnx", "digits_vit.calib.npz"):
        shutil.copy(SHIPPED / name, folder)
    model = folder / "digits_vit.onnx"
    before = model.read_bytes()
    code = main([str(model), "--bop-budget", "0.25", "--images", "24", "--threads", "1", "--quiet"])
    assert code == 0, "see stderr"
    return SimpleNamespace(model=model, output=folder / "digits_vit.auto.onnx", unchanged=model.read_bytes() == before)


def test_compile(compiled):
    assert compiled.unchanged
    assert sorted(path.name for path in compiled.output.parent.iterdir()) == [
        "digits_vit.auto.onnx",
        "digits_vit.calib.npz",
        "digits_vit.onnx",
    ]
    onnx.checker.check_model(onnx.load(compiled.output), full_check=True)


def test_inspect(compiled, cli):
    values = json.loads(cli("inspect", compiled.output, "--json").out)
    assert values["form"] == "lowered"
    assert values["report"]["calibration"]["count"] == 24
    assert 0.24 < values["report"]["bops"]["fraction_of_w8a8"] <= 0.25
    assert values["report"]["bops"]["overhead"] <= 0.125
    layers = {layer["name"]: layer for layer in values["layers"]}
    assert layers["head"]["weight_bits"] == layers["head"]["activation_bits"] == 8
    attention = [layer for layer in values["layers"] if layer["op"] == "BlockAttention"]
    assert len(attention) == 4
    for layer in (item for item in values["layers"] if item["weight_bits"] is not None):
        assert layer["stored"] == ("int4" if layer["weight_bits"] <= 4 else "int8")
    # The nodes and the report tell the same.
    reported = {layer["name"]: layer for layer in values["report"]["layers"]}
    for name, layer in layers.items():
        for key in ("groups", "scheme", "block", "rotate", "weight_block", "value_bits", "activation_bits"):
            assert layer[key] == reported[name][key], (name, key)


def test_eval(compiled, cli):
    words = ["--images", SHIPPED / "digits_vit.eval.npz", "--json", "--threads", 1]
    values = json.loads(cli("eval", compiled.model, compiled.output, *words).out)
    reference, quantized = values["models"]
    assert reference["top1"] > 97
    assert quantized["drop"] < 5


def test_bench(compiled, cli):
    values = json.loads(cli("bench", compiled.model, compiled.output, "--rounds", 3, "--json").out)
    assert [item["batch"] for item in values["models"]] == [1, 1]


def test_stages(compiled, cli, tmp_path):
    for stage, form in (("canonicalise", "float"), ("quantize", "readable")):
        output = tmp_path / f"{stage}.onnx"
        words = ["--stop-after", stage, "--images", 8, "--threads", 1, "--json", "-o", output]
        report = json.loads(cli(compiled.model, *words).out)
        assert report["output"] == str(output)
        assert json.loads(cli("inspect", output, "--json").out)["form"] == form
