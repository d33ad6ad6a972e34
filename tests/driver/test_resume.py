"""An interrupted compilation goes on where it was killed, and writes the bytes of one that nothing interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler.driver import compile_model
from qcompiler.driver.realise import Realiser
from qcompiler.driver.trial import Trial
from qcompiler.errors import OutputPathError
from qcompiler.relevance import sensitivity
from qcompiler.relevance.lrp import LayerRelevance

from .runs import fast
from .tiny import images, save, tiny

# Measures in this process, kills itself without a chance to clean up, or counts what it measures.
_SCRIPT = """
import os, signal, sys
from qcompiler.driver import compile_model
from qcompiler.relevance import sensitivity

model, output, folder, after = sys.argv[1:]
measure, count = sensitivity.measure_job, 0

def counted(context, job):
    global count
    if count == int(after):
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    return measure(context, job)

sensitivity.measure_job = counted
compile_model(model, fast(resume=Path(folder)), output=output)
"""


STATE = Path("state")


def compiled(folder, output="out.onnx", model="tiny.onnx", **options):
    """The result and the bytes written; paths are relative, because the report in a model tells where its data lay."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        result = compile_model(model, fast(**options), output=output)
        return result, Path(output).read_bytes()
    finally:
        os.chdir(before)


def killed_before(job, folder):
    """A compilation that is killed before it measures so many jobs."""
    code = _fast_source() + _SCRIPT
    words = [sys.executable, "-c", code, "tiny.onnx", "out.onnx", "state", str(job)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def _fast_source():
    """The options of `fast` without the package of the tests, which a new process does not find."""
    options = {name: value for name, value in vars(fast()).items() if value is not None}
    lines = ["from pathlib import Path", "from qcompiler.options import CompileOptions", "def fast(**more):"]
    return "\n".join([*lines, f"    return CompileOptions(**{options!r}, **more)"])


@pytest.fixture
def measured(monkeypatch):
    """Names of the jobs that are measured, and the number of plans that are tried out, from here on."""
    names, plans = [], []
    measure, trial = sensitivity.measure_job, Trial.measure

    def watched(context, job):
        names.append(job.name)
        return measure(context, job)

    def tried(self, plan, draws=1):
        plans.append(plan)
        return trial(self, plan, draws)

    monkeypatch.setattr(sensitivity, "measure_job", watched)
    monkeypatch.setattr(Trial, "measure", tried)
    return names, plans


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with the state of a compilation that was killed in the middle of the sweep."""
    folder = tmp_path_factory.mktemp("killed")
    save(folder)
    done = killed_before(5, folder)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(os.listdir(folder)) == ["state", "tiny.calib.npz", "tiny.onnx"]
    return folder


@pytest.fixture
def state(killed, tmp_path):
    """A copy of it that a test may use up."""
    return Path(shutil.copytree(killed, tmp_path / "copy"))


@pytest.fixture(scope="module")
def expected(killed):
    """What an uninterrupted compilation writes."""
    _, written = compiled(killed, "uninterrupted.onnx")
    (killed / "uninterrupted.onnx").unlink()
    return written


def test_killed_and_resumed(state, expected, measured):
    names, plans = measured
    (journal,) = (state / "state").glob("measurements-*.jsonl")
    known = [json.loads(line)["job"] for line in journal.read_text().splitlines()]
    assert len(known) == 5
    result, written = compiled(state, resume=STATE)
    assert written == expected
    assert names
    assert not set(names) & set(known)
    assert result.resumed == "the statistics, 5 sensitivities from 'state'"
    assert plans
    assert not (state / "state").exists()


def test_tried_plans_are_not_tried_again(state, expected, measured, monkeypatch):
    names, plans = measured
    compiled(state, "whole.onnx")
    alone = len(plans)
    assert alone > 2
    plans.clear()
    tried = Trial.measure

    def end(self, plan):
        if len(plans) == 2:
            raise KeyboardInterrupt
        return tried(self, plan)

    with monkeypatch.context() as patched:
        patched.setattr(Trial, "measure", end)
        with pytest.raises(KeyboardInterrupt):
            compiled(state, resume=STATE)
    assert not (state / "out.onnx").exists()
    names.clear()
    plans.clear()
    result, written = compiled(state, resume=STATE)
    assert not names
    assert len(plans) == alone - 2
    assert "2 tried plans" in result.resumed
    assert written == expected


def test_half_a_line_is_measured_again(state, expected, measured):
    names, _ = measured
    (journal,) = (state / "state").glob("measurements-*.jsonl")
    content = journal.read_bytes()
    lines = content.splitlines()
    journal.write_bytes(content[: -len(lines[-1]) // 2])
    _, written = compiled(state, resume=STATE)
    assert json.loads(lines[-1])["job"] in names
    assert json.loads(lines[0])["job"] not in names
    assert written == expected


def test_damaged_statistics_are_collected_again(state, expected):
    (path,) = (state / "state").glob("statistics-*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    result, written = compiled(state, resume=STATE)
    assert result.resumed == "5 sensitivities from 'state'"
    assert written == expected


def test_another_budget_shares_the_statistics_alone(state, measured):
    names, _ = measured
    result, written = compiled(state, resume=STATE, bop_budget=0.5)
    assert result.resumed == "the statistics from 'state'"
    assert len(names) > 5
    assert written == compiled(state, bop_budget=0.5)[1]
    assert [path.suffix for path in (state / "state").iterdir()] == [".jsonl"]  # of the other budget


@pytest.mark.parametrize("change", ["model", "data", "images"])
def test_another_model_or_other_data_share_nothing(state, measured, change):
    names, _ = measured
    if change == "model":
        onnx.save(tiny(seed=3), state / "tiny.onnx")
    if change == "data":
        np.savez(state / "tiny.calib.npz", x=images(24, seed=5))
    result, _ = compiled(state, resume=STATE, **({"images": 8} if change == "images" else {}))
    assert result.resumed == "nothing, because 'state' holds the state of another model, other data or other options"
    assert len(set(names)) == len(names) > 5


def test_relevance_is_measured_once(tmp_path, monkeypatch):
    save(tmp_path)
    options = {"method": "lrp", "resume": STATE}
    realise = Realiser.realise

    def end(self, *arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Realiser, "realise", end)
        with pytest.raises(KeyboardInterrupt):
            compiled(tmp_path, **options)
    assert Realiser.realise is realise
    with monkeypatch.context() as patched:
        patched.setattr(LayerRelevance, "measure", end)
        result, written = compiled(tmp_path, **options)
    assert result.resumed == "the statistics, the relevance of the layers from 'state'"
    assert written == compiled(tmp_path, method="lrp")[1]


def test_without_the_option_nothing_is_kept(tmp_path):
    save(tmp_path)
    result, _ = compiled(tmp_path, bits="w8a8", effort="low")
    assert result.resumed is None
    assert sorted(os.listdir(tmp_path)) == ["out.onnx", "tiny.calib.npz", "tiny.onnx"]


def test_foreign_files_in_the_folder_stay(tmp_path):
    save(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "notes.txt").write_text("mine")
    result, _ = compiled(tmp_path, resume=STATE, bits="w8a8", effort="low")
    assert result.resumed is None
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["notes.txt"]


def test_a_file_is_no_folder(tmp_path):
    save(tmp_path)
    (tmp_path / "state").write_text("mine")
    with pytest.raises(OutputPathError, match="--resume 'state' is a file"):
        compiled(tmp_path, resume=STATE)


def test_command_that_is_interrupted(tmp_path):
    """The default folder beside the output, worker processes, and no half-written output."""
    model, output = save(tmp_path), tmp_path / "out.onnx"
    words = [model, "-o", output, "--overhead-budget", 10, "--threads", 2, "--images", 16, "--resume"]
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code = f"{start}from qcompiler.cli import main\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    script = tmp_path / "run.py"
    script.write_text(code)
    folder = tmp_path / "out.onnx.resume"

    def command():
        return subprocess.Popen(
            [sys.executable, script, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    running = command()
    while running.poll() is None and not list(folder.glob("measurements-*.jsonl")):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=300)
    assert running.returncode == 130, error
    assert not output.exists()
    assert {path.name.partition("-")[0] for path in folder.iterdir()} == {"statistics", "measurements"}
    done = command()
    text, error = done.communicate(timeout=300)
    assert done.returncode == 0, error
    assert "resumed: the statistics, " in text
    assert output.exists()
    assert not folder.exists()
