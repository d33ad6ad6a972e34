"""`qcompile MODEL`: what reaches the driver, and what the user sees of the report."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from qcompiler.calibration.preprocess import PRESETS
from qcompiler.errors import BudgetError
from qcompiler.options import CompileOptions
from qcompiler.report.latency import LatencyReport
from tests.report.samples import LONG_NAME
from tests.report.search_samples import SEARCH


def test_defaults(cli, fake, model):
    assert cli(model).code == 0
    (call,) = fake.calls
    assert call.model == model
    assert call.options == CompileOptions()
    assert (call.calibration, call.preprocessing) == (None, None)
    assert call.output == model.with_name("m.auto.onnx")


def test_every_flag_reaches_the_driver(cli, fake, model, tmp_path):
    words = ["--method", "igq", "--bop-budget", "0.5", "--bits", "w4a8", "--overhead-budget", "0.2"]
    words += ["--groups", "exact", "--first-last-bits", "6", "--calib", "photos", "--images", "32"]
    words += ["--stop-after", "quantize", "--verify-each", "--threads", "3"]
    words += ["--save-stats", str(tmp_path / "s.npz"), "-o", str(tmp_path / "out.onnx")]
    words += ["--save-plan", str(tmp_path / "p.json"), "--size-budget", "0.3", "--strict-bits", "--effort", "high"]
    words += ["--executor", "inline", "--lrp-rule", "gamma", "--allow-collapse"]
    assert cli(*words, model).code == 0
    (call,) = fake.calls
    assert call.output == tmp_path / "out.onnx"
    assert call.calibration == "photos"
    expected = CompileOptions(
        method="igq",
        bits="w4a8",
        bop_budget=0.5,
        overhead_budget=0.2,
        groups="exact",
        first_last_bits=6,
        images=32,
        stop_after="quantize",
        verify_each=True,
        threads=3,
        save_stats=tmp_path / "s.npz",
        save_plan=tmp_path / "p.json",
        size_budget=0.3,
        strict_bits=True,
        effort="high",
        executor="inline",
        lrp_rule="gamma",
        allow_collapse=True,
    )
    assert call.options == expected


def test_bits_file_reaches_the_driver(cli, fake, model, tmp_path):
    assert cli(model, "--bits-file", tmp_path / "p.json").code == 0
    assert fake.calls[0].options == CompileOptions(bits_file=tmp_path / "p.json")
    done = cli(model, "--bits-file", tmp_path / "p.json", "--bits", "w4a4")
    assert (done.code, len(fake.calls)) == (2, 1)
    assert "give one of the two" in done.err


@pytest.mark.parametrize("method", ["auto", "igq", "mixq", "lrp"])
def test_the_output_is_named_after_the_method(cli, fake, model, method):
    assert cli(model, "--method", method).code == 0
    assert fake.calls[0].options.method == method
    assert fake.calls[0].output == model.with_name(f"m.{method}.onnx")


def test_report_is_written(cli, fake, model, tmp_path):
    assert cli(model, "--report", tmp_path / "made" / "report").code == 0
    values = json.loads((tmp_path / "made" / "report" / "report.json").read_text("utf-8"))
    assert values["model"] == "m.onnx"
    assert values["report"]["bops"] == json.loads(cli(model, "--json").out)["bops"]
    assert values["search"]["points"] == SEARCH.to_dict()["points"]
    assert "m.onnx" in (tmp_path / "made" / "report" / "report.html").read_text("utf-8")


def test_stats_reaches_the_driver(cli, fake, model, tmp_path):
    assert cli(model, "--stats", tmp_path / "s.npz").code == 0
    assert fake.calls[0].options.stats == tmp_path / "s.npz"


def test_every_option_of_a_compilation_has_a_flag():
    from qcompiler.cli.compile import build_parser

    flags = {action.dest for action in build_parser()._actions}
    # Three have no flag: they are for experiments from Python.
    missing = {field.name for field in fields(CompileOptions)} - flags
    assert missing == {"group_candidates", "probe_images", "trial_images"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--preset imagenet", PRESETS["imagenet"]),
        ("--preset half --resize 248 --crop 224", {"resize": 248, "crop": 224, "mean": (0.5,) * 3}),
        ("--mean 0.1,0.2,0.3 --std 0.4", {"mean": (0.1, 0.2, 0.3), "std": (0.4,) * 3, "resize": None}),
        ("--preset imagenet --mean 0.5", {"mean": (0.5,) * 3, "std": (0.229, 0.224, 0.225)}),
    ],
)
def test_preprocessing(cli, fake, model, words, expected):
    assert cli(model, *words.split()).code == 0
    found = fake.calls[0].preprocessing
    if isinstance(expected, dict):
        assert {name: getattr(found, name) for name in expected} == expected
    else:
        assert found == expected


@pytest.mark.parametrize("words", ["--mean 0.5", "--std 0.5", "--resize 256", "--crop 224"])
def test_half_a_preprocessing_is_refused(cli, fake, model, words):
    done = cli(model, *words.split())
    assert (done.code, fake.calls) == (2, [])
    assert "--preset half|imagenet|none" in done.err


def test_the_last_lines_say_what_it_cost(cli, fake, model):
    done = cli(model)
    labels = [line.split("  ")[0] for line in done.out.splitlines()]
    assert labels == ["model", "calibration", "agreement", "BOPs", "size", "written"]
    assert done.out.splitlines()[-1].split()[1] == str(model.with_name("m.auto.onnx"))
    assert done.err == ""


def test_verbose_shows_layers_in_full_above_the_summary(cli, fake, model):
    done = cli(model, "--verbose")
    assert LONG_NAME in done.out
    assert "fuse_gelu" in done.out
    assert done.out.splitlines()[-1].startswith("written")
    assert all(line == line.rstrip() for line in done.out.splitlines())


def test_json_is_one_object(cli, warned, model):
    done = cli(model, "--json", "--verbose", "--explain", "fuse_epilogue")
    values = json.loads(done.out)
    assert done.out.count("\n") == 1
    assert values["model"] == str(model)
    assert values["output"] == str(model.with_name("m.auto.onnx"))
    assert values["bops"]["fraction_of_w8a8"] == pytest.approx(0.25)
    assert values["warnings"] == ["no calibration data: synthetic images"]
    assert [layer["name"] for layer in values["layers"]][1] == LONG_NAME


def test_numbers_that_json_cannot_hold_become_null(cli, fake, model):
    measured = {**fake.report.agreement, "kl": float("nan"), "relative_error": float("inf")}
    fake.report = replace(fake.report, agreement=measured)
    values = json.loads(cli(model, "--json").out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (values["agreement"]["kl"], values["agreement"]["relative_error"]) == (None, None)


def test_warnings_are_loud_unless_quiet(cli, warned, model):
    assert cli(model).err == "qcompile: warning: no calibration data: synthetic images\n"
    assert "warning" in cli(model, "--json").err
    silent = cli(model, "--quiet")
    assert (silent.code, silent.out, silent.err) == (0, "", "")


def test_explain(cli, fake, model):
    assert "its result has several readers" in cli(model, "--explain", "fuse_epilogue").out
    assert "fuse_gelu: 4 places changed, no refusals" in cli(model, "--explain", "fuse_gelu").out
    assert "merge_qkv: did not run" in cli(model, "--explain", "merge_qkv").out
    refused = cli(model, "--explain", "nonsense")
    assert (refused.code, len(fake.calls)) == (2, 3)
    assert "fuse_gelu" in refused.err


@pytest.mark.parametrize("spelling", ["m.onnx", "sub/../m.onnx", "link.onnx", "hard.onnx"])
def test_an_output_that_is_the_input_is_refused_before_any_work(cli, fake, model, spelling):
    folder = model.parent
    (folder / "sub").mkdir()
    (folder / "link.onnx").symlink_to(model)
    (folder / "hard.onnx").hardlink_to(model)
    before = model.read_bytes()
    done = cli(model, "-o", folder / spelling)
    assert (done.code, fake.calls, model.read_bytes()) == (2, [], before)
    assert done.err.startswith("qcompile: error: --output")


def test_other_files_that_are_read_or_written_are_refused_too(cli, fake, model, tmp_path):
    calib, stats = tmp_path / "c.npz", tmp_path / "s.npz"
    calib.touch()
    for words in (
        ["--calib", calib, "-o", calib],
        ["--stats", stats, "-o", stats],
        ["--save-stats", model],
        ["--save-stats", calib, "--calib", calib],
        ["--save-stats", tmp_path / "x", "-o", tmp_path / "x"],
        ["--save-plan", model],
        ["--save-plan", tmp_path / "x", "-o", tmp_path / "x"],
        ["--save-plan", tmp_path / "x", "--save-stats", tmp_path / "x"],
        ["--bits-file", calib, "-o", calib],
        ["--bits-file", calib, "--save-plan", calib],
    ):
        assert cli(model, *words).code == 2
    assert fake.calls == []


def test_an_output_without_a_place_is_refused_before_any_work(cli, fake, model, tmp_path):
    for output in (tmp_path, tmp_path / "none" / "x.onnx"):
        done = cli(model, "-o", output)
        assert (done.code, done.out) == (2, "")
        assert "folder" in done.err
    assert fake.calls == []


def test_errors_of_the_driver_are_one_line(cli, fake, model):
    fake.error = BudgetError("no configuration meets it;\n  give --bop-budget 0.1406 or more")
    for flags in ((), ("--quiet",), ("--json",)):
        done = cli(model, *flags)
        assert (done.code, done.out) == (2, "")
        assert done.err == "qcompile: error: no configuration meets it; give --bop-budget 0.1406 or more\n"


def test_a_full_disk_is_an_error_of_one_line(cli, fake, model):
    fake.error = OSError(28, "No space left on device", "/full/m.onnx")
    assert cli(model).err == "qcompile: error: /full/m.onnx: No space left on device\n"


def test_too_little_memory_is_an_error_of_one_line(cli, fake, model):
    fake.error = MemoryError()
    assert "out of memory" in cli(model).err


def test_a_defect_keeps_its_traceback(cli, fake, model):
    fake.error = AssertionError("a defect")
    with pytest.raises(AssertionError, match="a defect"):
        cli(model)


def test_interrupt(cli, fake, model):
    fake.error = KeyboardInterrupt()
    done = cli(model)
    assert (done.code, done.out, done.err) == (130, "", "qcompile: interrupted\n")


def test_a_model_in_the_working_directory(cli, fake, model, monkeypatch):
    monkeypatch.chdir(model.parent)
    assert cli("m.onnx").code == 0
    assert fake.calls[0].output == Path("m.auto.onnx")


def test_latency_budget_reaches_the_driver(cli, fake, model):
    assert cli(model, "--latency-budget", 0.4).code == 0
    assert fake.calls[0].options == CompileOptions(latency_budget=0.4)
    for words in (["--latency-budget", 0], ["--latency-budget", 0.4, "--stop-after", "quantize"]):
        done = cli(model, *words)
        assert (done.code, len(fake.calls)) == (2, 1)
        assert "--latency-budget" in done.err


def test_latency_is_reported(cli, fake, model, tmp_path):
    latency = LatencyReport(0.4, 0.3871, "Abacus 9000", "avx2", 1, "4-bit weights cost the same as 8-bit ones", 0.4012)
    fake.report = replace(fake.report, latency=latency)
    words = "predicted 0.387, measured 0.401 of the float model's time (one image, 1 thread; at most 0.4)"
    out = cli(model, "--report", tmp_path).out
    assert words in out
    assert "4-bit weights cost the same as 8-bit ones" in out
    assert json.loads(cli(model, "--json").out)["latency"]["measured"] == 0.4012
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "0.401 of float" in page
    assert "Abacus 9000" in page
    fake.report = replace(fake.report, latency=replace(latency, measured=None))
    assert "predicted 0.387 of the float model's time" in cli(model).out


def test_without_a_latency_budget_nothing_is_said_of_latency(cli, fake, model, tmp_path):
    out = cli(model, "--report", tmp_path).out
    assert not any(line.startswith("latency") for line in out.splitlines())
    assert "<span>Latency</span>" not in (tmp_path / "report.html").read_text("utf-8")
