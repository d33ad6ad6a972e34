"""Repositories: complete or not there, extended by versions, refused where something does not go together."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from qcompiler.deploy import DeployOptions, deploy_model, deploying, package
from qcompiler.errors import ModelFileError, OptionError, OutputPathError, RuntimeLibraryError
from qcompiler.runtime_ops import LibraryNotFoundError, session

from .small_models import identity, with_external_weights

SERVERS = ("triton", "mlserver")
ANY_TARGET = [("triton", None), ("mlserver", None), ("docker", "triton"), ("docker", "mlserver")]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files included."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A float model with a free batch."""
    path = tmp_path / "small.onnx"
    onnx.save(identity("x", "y", TensorProto.FLOAT, ("n", 3)), path)
    return path


@pytest.mark.parametrize("server", SERVERS)
def test_versions_follow_each_other(digits, tmp_path, server):
    repository, options = tmp_path / "r", DeployOptions(server, "digits")
    source = digits.read_bytes()
    for number in (1, 2, 3):
        before = contents(repository) if number > 1 else {}
        assert deploy_model(digits, repository, options).version == number
        after = contents(repository)
        assert {name: after[name] for name in before} == before, "what was there stays as it was"
        assert {name.split("/")[1] for name in set(after) - set(before) if number > 1} <= {str(number)}
        record = json.loads((repository / "digits" / str(number) / "deployment.json").read_text())
        assert record["model_sha256"] == hashlib.sha256(source).hexdigest()
    assert digits.read_bytes() == source
    model = "model.onnx" if server == "triton" else "model/model.onnx"
    assert (repository / "digits" / "3" / model).read_bytes() == source


@pytest.mark.parametrize(("target", "server"), ANY_TARGET)
def test_two_models_in_one_repository(small, tmp_path, target, server):
    repository = tmp_path / "r"
    for name in ("a", "b"):
        assert deploy_model(small, repository, DeployOptions(target, name, server)).version == 1
    models = repository / "models" if target == "docker" else repository
    assert {path.name for path in models.iterdir() if path.is_dir()} == {"a", "b"}


@pytest.mark.parametrize(("target", "server"), ANY_TARGET)
def test_existing_empty_folder(small, tmp_path, target, server):
    (tmp_path / "r").mkdir(mode=0o750)
    deploy_model(small, tmp_path / "r", DeployOptions(target, "a", server))
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o750
    assert not [name for name in contents(tmp_path / "r") if name.startswith(".")]


def test_files_can_be_read_by_a_server_of_another_user(small, tmp_path):
    before = os.umask(0o022)
    try:
        deploy_model(small, tmp_path / "r", DeployOptions("mlserver", "a"))
    finally:
        os.umask(before)
    for path in [tmp_path / "r", *(tmp_path / "r").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_what_the_user_changed_stays(small, tmp_path):
    places = {server: tmp_path / server for server in SERVERS}
    for server, repository in places.items():
        deploy_model(small, repository, DeployOptions(server, "a"))
    config, settings = places["triton"] / "a" / "config.pbtxt", places["mlserver"] / "settings.json"
    config.write_text("# tuned\n")
    settings.write_text("{}\n")
    for server, repository in places.items():
        assert deploy_model(small, repository, DeployOptions(server, "a")).version == 2
    assert (config.read_text(), settings.read_text()) == ("# tuned\n", "{}\n")


@pytest.mark.parametrize(
    ("server", "options", "says"),
    [
        ("triton", {"instances": 2}, "other --instances (1, now 2)"),
        ("triton", {"threads": 4}, "other --threads (0, now 4)"),
        ("triton", {"max_batch": 4}, "other --max-batch (32, now 4)"),
        ("triton", {"mount": "/m"}, 'other --mount ("/models", now "/m")'),
        ("triton", {"without_library": True}, "other operator library"),
        ("mlserver", {"instances": 2, "threads": 4, "max_batch": 4, "without_library": True}, None),
    ],
)
def test_what_versions_share(digits, tmp_path, server, options, says):
    repository = tmp_path / "r"
    deploy_model(digits, repository, DeployOptions(server, "digits"))
    before = contents(repository)
    if says is None:  # a version of MLServer stands for itself
        assert deploy_model(digits, repository, DeployOptions(server, "digits", **options)).version == 2
        return
    with pytest.raises(OutputPathError) as caught:
        deploy_model(digits, repository, DeployOptions(server, "digits", **options))
    assert says in str(caught.value)
    assert contents(repository) == before


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("other", "says"),
    [
        (identity("image", "y", TensorProto.FLOAT, ("n", 3)), "inputs"),
        (identity("x", "scores", TensorProto.FLOAT, ("n", 3)), "outputs"),
        (identity("x", "y", TensorProto.FLOAT16, ("n", 3)), "inputs"),
        (identity("x", "y", TensorProto.FLOAT, (1, 3)), "inputs"),
    ],
)
def test_a_version_must_read_and_write_the_same(small, tmp_path, server, other, says):
    repository = tmp_path / "r"
    deploy_model(small, repository, DeployOptions(server, "a"))
    before = contents(repository)
    onnx.save(other, small)
    with pytest.raises(OutputPathError, match=f"other {says}"):
        deploy_model(small, repository, DeployOptions(server, "a"))
    assert contents(repository) == before


def test_another_servers_repository_is_refused(small, tmp_path):
    deploy_model(small, tmp_path / "r", DeployOptions("triton", "a"))
    with pytest.raises(OutputPathError, match="models for triton"):
        deploy_model(small, tmp_path / "r", DeployOptions("mlserver", "b"))


@pytest.mark.parametrize("inside", [(), ("1/",), ("notes.txt",), ("1/deployment.json",)])
def test_a_folder_of_someone_else_is_refused(small, tmp_path, inside):
    folder = tmp_path / "r" / "a"
    folder.mkdir(parents=True)
    for name in inside:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputPathError, match="choose another --name"):
        deploy_model(small, tmp_path / "r", DeployOptions("triton", "a"))
    assert contents(tmp_path) == before


def test_no_place_for_the_repository(small, tmp_path):
    with pytest.raises(OutputPathError, match="does not exist; create it"):
        deploy_model(small, tmp_path / "no" / "r", DeployOptions("triton", "a"))
    with pytest.raises(OutputPathError, match="is a file"):
        deploy_model(small, small, DeployOptions("triton", "a"))


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(("target", "server"), ANY_TARGET)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelFileError])
def test_nothing_is_left_where_it_fails(small, tmp_path, monkeypatch, exists, target, server, error):
    def fail(model, library):
        raise error("while the files are looked at")

    if exists:
        (tmp_path / "r").mkdir()
    monkeypatch.setattr(deploying, "check_opens", fail)
    before = contents(tmp_path)
    with pytest.raises(error):
        deploy_model(small, tmp_path / "r", DeployOptions(target, "a", server))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_was_moved_is_taken_back(small, tmp_path, monkeypatch, calls, error):
    rename, left = os.rename, [calls]

    def fail(source, target):
        left[0] -= 1
        if not left[0]:
            raise error
        rename(source, target)

    (tmp_path / "r").mkdir()
    monkeypatch.setattr("qcompiler.deploy.writing.os.rename", fail)
    before = contents(tmp_path)
    with pytest.raises((KeyboardInterrupt, OutputPathError)):
        deploy_model(small, tmp_path / "r", DeployOptions("docker", "a", "mlserver"))
    assert contents(tmp_path) == before


def test_deployments_at_the_same_time(small, tmp_path):
    """Every one of them writes a whole version or says that another was faster."""
    (tmp_path / "r").mkdir()
    deploy_model(small, tmp_path / "r", DeployOptions("mlserver", "a"))
    done: list[int] = []
    refused: list[str] = []

    def run():
        try:
            done.append(deploy_model(small, tmp_path / "r", DeployOptions("mlserver", "a")).version)
        except OutputPathError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) + len(refused) == 6
    assert done
    assert all("run the command again" in text for text in refused)
    versions = sorted(path.name for path in (tmp_path / "r" / "a").iterdir() if path.is_dir())
    assert versions == sorted({"1", *map(str, done)})
    assert len(set(done)) == len(done)
    for version in versions:
        assert len(list((tmp_path / "r" / "a" / version).rglob("*.*"))) == 4


@pytest.mark.parametrize("server", SERVERS)
def test_external_data_travels_with_the_model(tmp_path, server):
    path = with_external_weights(tmp_path)
    deploy_model(path, tmp_path / "r", DeployOptions(server, "add"))
    (model,) = (tmp_path / "r").rglob("model.onnx")
    for name in ("add.onnx", "weights.bin"):
        (tmp_path / name).unlink()
    x = np.ones((2, 1024), np.float32)
    expected = np.arange(1024, dtype=np.float32) + 1
    np.testing.assert_array_equal(session(model, library=False).run(None, {"x": x})[0], [expected, expected])


def test_external_data_is_not_where_servers_import_from(tmp_path):
    path = with_external_weights(tmp_path, "onnxruntime.py")
    deploy_model(path, tmp_path / "r", DeployOptions("mlserver", "add"))
    (found,) = (tmp_path / "r").rglob("onnxruntime.py")
    assert found.parent.name == "model"


def test_external_data_outside_the_models_folder(tmp_path):
    path = with_external_weights(tmp_path)
    model = onnx.load(path, load_external_data=False)
    folder = tmp_path / "inner"
    folder.mkdir()
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../weights.bin"
    (folder / "add.onnx").write_bytes(model.SerializeToString())
    before = contents(tmp_path)
    with pytest.raises(ModelFileError):
        deploy_model(folder / "add.onnx", tmp_path / "r", DeployOptions("triton", "add"))
    assert contents(tmp_path) == before


def test_no_library_is_said_and_can_be_done_without(digits, tmp_path, monkeypatch):
    def missing():
        raise LibraryNotFoundError("installed without its operator library")

    monkeypatch.setattr(package.runtime_ops, "library_path", missing)
    with pytest.raises(RuntimeLibraryError, match="--without-library"):
        deploy_model(digits, tmp_path / "r", DeployOptions("triton", "digits"))
    assert not (tmp_path / "r").exists()
    assert not deploy_model(digits, tmp_path / "r", DeployOptions("triton", "digits", without_library=True)).library


def test_a_model_that_onnx_runtime_refuses(small, tmp_path):
    model = onnx.load(small)
    model.graph.node[0].domain = "nobody"
    model.opset_import.add(domain="nobody", version=1)
    shutil.copy(small, tmp_path / "kept.onnx")
    small.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError):
        deploy_model(small, tmp_path / "r", DeployOptions("triton", "a"))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["", "..", ".a", "a/b", "a b", "a\n", "ü", "-a"])
def test_names_that_are_no_names(name):
    with pytest.raises(OptionError, match="--name"):
        DeployOptions("triton", name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"target": "kserve"}, "none of"),
        ({"target": "docker"}, "--server"),
        ({"target": "docker", "server": "kserve"}, "none of"),
        ({"target": "triton", "server": "mlserver"}, "contradicts"),
        ({"target": "triton", "mount": "models"}, "absolute"),
        ({"target": "mlserver", "mount": "/m"}, "--mount"),
        ({"target": "triton", "instances": 0}, "--instances"),
        ({"target": "triton", "max_batch": 0}, "--max-batch"),
        ({"target": "triton", "threads": -1}, "--threads"),
    ],
)
def test_options_that_make_no_sense(words, says):
    with pytest.raises(OptionError, match=says):
        DeployOptions(name="a", **words)
