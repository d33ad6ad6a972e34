"""`qcompile verify MODEL`: one line per check, and an exit code."""

import json

import numpy as np
import onnx
import pytest

from tests.driver.runs import fast
from tests.driver.tiny import save


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A written model; its float model and data lie beside it."""
    from qcompiler.driver import compile_model

    folder = tmp_path_factory.mktemp("verify")
    options = fast(bits="w4a4", effort="low", executor="inline")
    compile_model(save(folder), options, output=folder / "q.onnx")
    return folder / "q.onnx"


def test_passed(cli, written):
    done = cli(
        "verify", written, "--against", written.with_name("tiny.onnx"), "--calib", written.with_name("tiny.calib.npz")
    )
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("file", "structure", "contents", "bodies", "constants", "budget", "kernels", "calibration", "agreement")
    ]
    assert "0.2500 of W8A8" in done.out


def test_failed(cli, written, tmp_path):
    model = onnx.load(written)
    model.graph.node[0].name = "renamed"
    path = tmp_path / "renamed.onnx"
    onnx.save(model, path)
    done = cli("verify", path)
    assert (done.code, done.err) == (1, "")
    assert "contents     failed: " in done.out


def test_json(cli, written):
    done = cli("verify", written, "--json")
    values = json.loads(done.out)
    assert (done.code, values["passed"], values["model"]) == (0, True, str(written))
    assert {check["status"] for check in values["checks"]} <= {"ok", "skipped"}
    assert {*values["checks"][0]} == {"name", "status", "text"}


def test_quiet(cli, written, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(written.read_bytes()[:-100])
    assert (cli("verify", written, "--quiet").out, cli("verify", path, "--quiet").code) == ("", 1)


@pytest.mark.parametrize(
    "words", [["missing.onnx"], [], ["{}", "--against", "missing.onnx"], ["{}", "--calib", "no.npz"]]
)
def test_what_the_user_can_fix(cli, written, words):
    done = cli("verify", *(word.format(written) for word in words))
    assert done.code == 2
    assert len(done.err.splitlines()) == 1


def test_objects_are_never_unpickled(cli, written, tmp_path):
    """An array of Python objects could only be read by running code."""
    path = tmp_path / "objects.npz"
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    np.savez(path, x=np.array([Trap()], object))
    done = cli("verify", written, "--calib", path)
    assert (done.code, trap.exists()) == (2, False)
    assert "Python objects" in done.err


@pytest.mark.parametrize("place", ["../secret.bin", "{}/secret.bin", "link.bin"])
def test_weights_stay_beside_the_model(cli, written, tmp_path, place):
    """External data that leads out of the model's folder is refused, whatever lies there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(written)
    tensor = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place.format(tmp_path)), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    path = folder / "q.onnx"
    path.write_bytes(model.SerializeToString())
    done = cli("verify", path)
    assert done.code == 1
    assert "file  failed: " in done.out
