"""Folders of killed processes are removed by the next process, those of living ones and of others are not."""

import os
import signal
import subprocess
import sys

import pytest

from qcompiler.ir.temporary_folders import LOCK, remove_abandoned, temporary_folder

_HOLDER = """
import sys
from qcompiler.ir.temporary_folders import temporary_folder
folder = temporary_folder()
print(folder.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process with a temporary folder, which lies in `tmp_path`."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", _HOLDER], stdin=pipe, stdout=pipe, text=True, env=environment)
    process.folder = tmp_path / os.path.basename(process.stdout.readline().strip())
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_killed_process(holder):
    (holder.folder / "weights.bin").write_bytes(bytes(100))
    remove_abandoned()
    assert (holder.folder / "weights.bin").exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (holder.folder / "weights.bin").exists()
    remove_abandoned()
    assert not holder.folder.exists()


def test_a_process_that_ends(holder):
    holder.communicate("")
    assert holder.returncode == 0
    assert not holder.folder.exists()


def test_a_folder_of_this_process(tmp_path):
    folder = temporary_folder()
    remove_abandoned()
    assert os.listdir(folder.name) == [LOCK]
    opened = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    del folder
    assert not list(tmp_path.iterdir())
    if opened:
        assert len(os.listdir("/proc/self/fd")) < len(opened)


def test_what_is_not_ours_stays(tmp_path):
    """A folder without a lock, a file and a link of such a name, and a folder of another name."""
    target = tmp_path / "target"
    for name in ("qcompile-unlocked", "other", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "values").touch()
    (tmp_path / "other" / LOCK).touch()
    (target / LOCK).touch()
    (tmp_path / "qcompile-file").touch()
    (tmp_path / "qcompile-link").symlink_to(target)
    (tmp_path / "qcompile-lock").mkdir()
    (tmp_path / "qcompile-lock" / LOCK).symlink_to(target / LOCK)
    before = sorted(tmp_path.rglob("*"))
    remove_abandoned()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_compilation_starts_with_it(holder):
    from qcompiler.driver import analyze_model
    from qcompiler.errors import ModelFileError

    holder.kill()
    holder.wait()
    with pytest.raises(ModelFileError):
        analyze_model("nothing.onnx")
    assert not holder.folder.exists()
