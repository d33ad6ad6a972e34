"""Nothing half-written is ever seen."""

from pathlib import Path

import pytest

from qcompiler.errors import OutputPathError
from qcompiler.models.atomic import written_beside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_files_move_and_the_old_one_is_replaced(tmp_path):
    (tmp_path / "m.onnx").write_text("old")
    with written_beside(tmp_path / "m.onnx") as path:
        assert path.name == "m.onnx"
        path.write_text("new")
        path.with_name("m.onnx.data").write_text("weights")
        assert (tmp_path / "m.onnx").read_text() == "old"
    assert names(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx").read_text() == "new"


def test_failure_leaves_nothing(tmp_path):
    def fail():
        with written_beside(tmp_path / "sub" / "m.onnx") as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path / "sub") == []


def test_main_file_moves_last(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr("os.replace", lambda source, target: moved.append(Path(target).name))
    with written_beside(tmp_path / "a.onnx") as path:
        for name in ("a.onnx", "a.onnx.data", "b.bin"):
            path.with_name(name).write_text(name)
    assert moved[-1] == "a.onnx"
    assert len(moved) == 3


def test_output_is_a_folder(tmp_path):
    (tmp_path / "m.onnx").mkdir()
    (tmp_path / "m.onnx" / "kept").write_text("")

    def write():
        with written_beside(tmp_path / "m.onnx") as path:
            path.write_text("new")

    with pytest.raises(OutputPathError, match="cannot be written"):
        write()
    assert names(tmp_path) == ["m.onnx"]
