"""The scripts of tests/bench: they start, and their tables are right for numbers that are made up."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import tests.bench
from qcompiler.driver.comparison import LatencyComparison
from qcompiler.evaluation.latency import Latency
from qcompiler.latency.shapes import LinearShape
from tests.bench import kernels, models

FOLDER = Path(tests.bench.__file__).parent


def lines(part):
    stream = io.StringIO()
    Console(file=stream, width=400, highlight=False, markup=False).print(part)
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("script", ["kernels.py", "models.py"])
def test_help(script):
    done = subprocess.run([sys.executable, FOLDER / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout


def test_rows_of_kernels():
    times = {"float32": 1000.0, kernels.PEER: 500.0, "blocks": 250.0}
    ratios = {"float32": 1.0, kernels.PEER: 2.5, "blocks": 5.0}  # within rounds: not quite the ratios of the times
    found = kernels.rows("m qkv", 50_000_000, times, ratios, 800.0)
    assert [(row.operator, row.tops, row.peak_share, row.over_float, row.over_peer) for row in found] == [
        ("float32", pytest.approx(0.1), None, 1.0, 0.4),
        (kernels.PEER, pytest.approx(0.2), pytest.approx(0.25), 2.5, 1.0),
        ("blocks", pytest.approx(0.4), pytest.approx(0.5), 5.0, 2.0),
    ]
    shown = lines(kernels.show(found, "avx2", 800.0))
    assert "One thread, 197 tokens, CPU path avx2, peak 0.80 TOPS" in shown
    assert "m qkv blocks 250 0.400 50 5.00 2.00" in shown
    without = lines(kernels.show(kernels.rows("m", 1000, times, ratios, None), "portable", None))
    assert "no peak measured" in without[0]
    assert not any("% of peak" in line for line in without)


def test_kernels_of_a_small_shape(library, monkeypatch):
    """Every operator and peer runs, but for torch's, which takes long to import."""
    monkeypatch.setattr(kernels, "_one_dnn", lambda _: None)
    shape = LinearShape(1, 5, 64, 32)
    found = kernels.measure("tiny", shape, 1, None)
    assert [row.operator for row in found][:3] == ["float32", kernels.PEER, "ORT dynamic int8"]
    assert {row.operator for row in found} >= set(kernels.operators(shape))


def test_the_peak_is_built(tmp_path):
    """It says that it needs a path where it is given none that it knows."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = kernels.built_peak(compiler, tmp_path)
    done = subprocess.run([program, "no such path"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert kernels.measured_peak("no such path") is None


def comparison(*results):
    paths = tuple(Path(result.model) for result in results)
    return LatencyComparison(results, paths, "synthetic", "operator library, CPU path avx2")


def test_table_of_models():
    one = comparison(Latency("f.onnx", 1, 1, 9, 30.0, 1, 1, 1), Latency("q.onnx", 1, 1, 9, 15.0, 2.0, 1.9, 2.1))
    two = comparison(Latency("f.onnx", 8, 2, 9, 99.5, 1, 1, 1), Latency("q.onnx", 8, 2, 9, 40.0, 2.5, 2.4, 2.6))
    shown = lines(models.show({models.setting("1:1"): [one], models.setting("8:2"): [two]}))
    assert "model batch 1, 1 thread batch 8, 2 threads" in shown
    assert "f.onnx 30.0 ms 99.5 ms" in shown
    assert "q.onnx 15.0 ms, 2.00 (1.90 .. 2.10) 40.0 ms, 2.50 (2.40 .. 2.60)" in shown


@pytest.mark.parametrize("wrong", ["1", "0:1", "1:0", "a:b", ":"])
def test_settings_that_make_no_sense(wrong, capsys):
    with pytest.raises(SystemExit):
        models.main(["m.onnx", "--run", wrong])
    assert "BATCH:THREADS" in capsys.readouterr().err


def test_nothing_to_measure(capsys):
    with pytest.raises(SystemExit):
        models.main([])
    assert "give models" in capsys.readouterr().err
