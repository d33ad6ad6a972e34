"""A compilation that is told to end leaves nothing behind: no half file, no process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.driver.tiny import save

# The signal comes where it does most harm: with the file written and not yet in its place.
_KILLED_WHILE_WRITING = """
import os, signal, sys
from qcompiler.cli import main

def fsync(handle):
    os.kill(os.getpid(), signal.{name})

os.fsync = fsync
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
sys.exit(main(sys.argv[1:]))
"""


def qcompile(*words, code=None):
    start = [sys.executable, "-m", "qcompiler.cli"] if code is None else [sys.executable, "-c", code]
    return subprocess.Popen([*start, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("name", "code", "says"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
def test_while_writing(tmp_path, name, code, says):
    model = save(tmp_path)
    output = tmp_path / "out.onnx"
    output.write_bytes(b"what was there before")
    words = [model, "--stop-after", "canonicalise", "-o", output, "--threads", 1]
    running = qcompile(*words, code=_KILLED_WHILE_WRITING.format(name=name))
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out, err) == (code, "", f"qcompile: {says}\n")
    assert output.read_bytes() == b"what was there before"
    assert sorted(os.listdir(tmp_path)) == ["out.onnx", "tiny.calib.npz", "tiny.onnx"]


def children(pid):
    """Processes that any thread of a process started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread ended meanwhile
            found += map(int, task.read_text().split())
    return found


def alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the worker processes")
def test_while_workers_measure(tmp_path):
    running = qcompile(save(tmp_path), "--overhead-budget", 10, "--threads", 2)
    try:
        workers = []
        while running.poll() is None and len(workers) < 2:  # the first only keeps account of resources
            workers = children(running.pid)
            time.sleep(0.01)
        assert workers, running.communicate()
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=120)
        assert (running.returncode, out) == (143, "")
        assert "qcompile: terminated\n" in err  # a worker that was just starting may complain about its lost parent
    finally:
        running.kill()
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert sorted(os.listdir(tmp_path)) == ["tiny.calib.npz", "tiny.onnx"]
