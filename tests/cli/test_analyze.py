"""`qcompile analyze MODEL`: what reaches the driver, and what the user sees of the analysis."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from qcompiler import driver
from qcompiler.calibration.preprocess import PRESETS
from qcompiler.errors import BudgetError
from qcompiler.options import CompileOptions
from tests.driver.tiny import save
from tests.report.analysis_samples import ANALYSIS


@pytest.fixture
def analysed(monkeypatch):
    """The analysis replaced by a known one; its calls are recorded."""
    calls = []

    def analyze_model(model, options=None, calibration=None, *, preprocessing=None, progress=None):
        calls.append(SimpleNamespace(model=model, options=options, calibration=calibration, pre=preprocessing))
        return ANALYSIS

    monkeypatch.setattr(driver, "analyze_model", analyze_model)
    return calls


def test_defaults(cli, analysed, model):
    assert cli("analyze", model).code == 0
    (call,) = analysed
    assert (call.model, call.options, call.calibration, call.pre) == (model, CompileOptions(), None, None)


def test_every_flag_reaches_the_driver(cli, analysed, model, tmp_path):
    words = "--calib photos --preset half --bop-budget 0.5 --effort low --lrp-rule gamma --executor inline"
    words += " --threads 3 --images 32 --resume state --save-stats"
    assert cli("analyze", model, *words.split(), tmp_path / "s.npz").code == 0
    (call,) = analysed
    assert (call.calibration, call.pre) == ("photos", PRESETS["half"])
    assert call.options == CompileOptions(
        bop_budget=0.5,
        effort="low",
        lrp_rule="gamma",
        executor="inline",
        threads=3,
        images=32,
        save_stats=tmp_path / "s.npz",
        resume=Path("state"),
    )
    assert cli("analyze", model, "--stats", tmp_path / "s.npz").code == 0
    assert analysed[1].options == CompileOptions(stats=tmp_path / "s.npz")


def test_resume_beside_the_model(cli, analysed, model, monkeypatch):
    assert cli("analyze", model, "--resume").code == 0
    assert analysed[0].options.resume == model.with_name(f"{model.name}.resume")
    resumed = replace(ANALYSIS, resumed="the statistics from 'state'")
    monkeypatch.setattr(driver, "analyze_model", lambda *given, **more: resumed)
    assert "resumed: the statistics from 'state'" in cli("analyze", model, "--resume", "state").out
    assert "resumed" not in json.loads(cli("analyze", model, "--resume", "state", "--json").out)


def test_one_row_per_layer(cli, analysed, model):
    done = cli("analyze", model)
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line.strip()}
    assert rows["patch[proj]"] == ["patch_embed", "0.1250", "-", "-", "-", "-"]
    assert rows["blocks.0.fc1"] == ["fc1", "0.5000", "2.50e-01", "1.25e-01", "1.77e-02", "-"]
    assert rows["blocks.0.attn"] == ["attention", "0.3750", "1.00e-03", "2.00e-03"]
    assert "relevance" in done.out
    assert str(model) in done.out.splitlines()[-4]


def test_json(cli, analysed, model):
    values = json.loads(cli("analyze", model, "--json").out)
    assert values.pop("model") == str(model)
    assert values == json.loads(json.dumps(ANALYSIS.to_dict()))


def test_quiet(cli, analysed, model):
    done = cli("analyze", model, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_warnings(cli, analysed, model):
    assert cli("analyze", model).err == "qcompile: warning: few images\n"


def test_report(cli, analysed, model, tmp_path):
    assert cli("analyze", model, "--report", tmp_path / "r").code == 0
    values = json.loads((tmp_path / "r" / "report.json").read_text("utf-8"))
    assert values["model"] == "m.onnx"
    assert values["layers"][1]["sensitivity"] == {"w3": 0.25, "w4": 0.125, "a3": 0.0177}
    page = (tmp_path / "r" / "report.html").read_text("utf-8")
    assert "blocks.0.fc1" in page and "few images" in page


def test_an_output_that_is_read_is_refused_before_any_work(cli, analysed, model):
    calib = model.with_name("c.npz")
    calib.touch()
    for words in (["--save-stats", model], ["--save-stats", calib, "--calib", calib]):
        assert cli("analyze", model, *words).code == 2
    assert analysed == []


def test_errors_of_the_driver_are_one_line(cli, model, monkeypatch):
    def refuse(*_, **__):
        raise BudgetError("too little;\n  give more")

    monkeypatch.setattr(driver, "analyze_model", refuse)
    done = cli("analyze", model)
    assert (done.code, done.out, done.err) == (2, "", "qcompile: error: too little; give more\n")


def test_a_model(cli, tmp_path):
    """Without a fake."""
    path = save(tmp_path)
    done = cli("analyze", path, "--threads", 1, "--images", 8, "--json", "--report", tmp_path / "report")
    assert (done.code, done.err) == (0, "")
    layers = {layer["name"]: layer for layer in json.loads(done.out)["layers"]}
    assert sum(layer["relevance"] for layer in layers.values()) == pytest.approx(1)
    assert set(layers["mlp.fc1"]["sensitivity"]) == {side + bits for side in "wa" for bits in "3456"}
    written = sorted(item.name for item in (tmp_path / "report").iterdir())
    assert written == ["report.html", "report.json"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["report", "tiny.calib.npz", "tiny.onnx"]
