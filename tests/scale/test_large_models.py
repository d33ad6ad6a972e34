"""Memory of a compilation, measured on whole processes: at most half as much again as the model takes on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from .large_vit import VitShape, write_images, write_vit

MOST = 1.5
OPTIONS = [["--bits", "w8a8"], ["--bits", "w4a4"], ["--bop-budget", "0.25"]]
# Two threads: every one has the work of a layer in memory, whatever the model's size.
COMMON = ["--effort", "low", "--threads", "2", "--allow-collapse"]

_MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "qcompiler.cli", *sys.argv[1:]]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""


def peak(words):
    """Most memory of any process of a command line, bytes."""
    done = subprocess.run([sys.executable, "-c", _MEASURED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


_FLOAT_RUN = """
import sys
import numpy as np
from qcompiler.calibration.float_session import StreamedSession, float_session
from qcompiler.ir.loading import load_model
from qcompiler.ir.weight_files import WeightFiles

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

path, images, large = sys.argv[1:]
StreamedSession.__init__.__defaults__ = (0, 8 << 20)
feed = {"x": np.load(images)["x"][:1]}
before = peak()
with WeightFiles(large=int(large)) as files:
    float_session(load_model(path, files), 1).run(None, feed)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see a process's memory")
def test_a_run_holds_a_part_of_the_weights(tmp_path):
    """On a small scale; the same model read into memory takes several times its size, so that this measures something.

    The tolerance is what the session itself takes and one part of 8 MB.
    """
    path, images = tmp_path / "vit.onnx", tmp_path / "vit.calib.npz"
    size = write_vit(path, VitShape(dim=384, depth=16, heads=6, mlp=1536))
    write_images(images, 1)

    def used(large):
        words = [sys.executable, "-c", _FLOAT_RUN, str(path), str(images), str(large)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert size > 100 << 20
    assert used(large=1 << 20) < 0.6 * size
    assert used(large=1 << 40) > 2 * size


@pytest.fixture(scope="module")
def giant(tmp_path_factory):
    """A model of 2.3 GB."""
    path = tmp_path_factory.mktemp("giant") / "giant.onnx"
    size = write_vit(path, VitShape())
    write_images(path.with_name("giant.calib.npz"), 6)
    return path, size


@pytest.mark.slow  # so that `-m 'not slow'`, which replaces the default selection, leaves it out too
@pytest.mark.large
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_memory_of_a_model_above_2_gb(giant, tmp_path, options):
    path, size = giant
    assert size > 2**31
    output = tmp_path / "out.onnx"
    used = peak([str(path), *options, *COMMON, "-o", str(output), "--quiet"])
    print(f"{' '.join(options)}: {used / size:.2f} of the model's size")
    assert used <= MOST * size
    feed = {"x": np.load(path.with_name("giant.calib.npz"))["x"][:1]}
    session = ort.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    assert session.run(None, feed)[0].shape == (1, 1000)
