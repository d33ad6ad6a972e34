"""Dockerfile and compose file, read by parsers of their own; nothing is built here."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from qcompiler.deploy import DeployOptions, deploy_model
from qcompiler.deploy.mlserver import MLSERVER_RELEASE

from .small_models import identity

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="dockerfile-parse is not installed")

PORTS = {"triton": (8000, 8001, 8002), "mlserver": (8080, 8081, 8082)}


@pytest.fixture(params=sorted(PORTS))
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A server and the context of its image."""
    path = tmp_path / "m.onnx"
    onnx.save(identity("x", "y", TensorProto.FLOAT, ("n", 3)), path)
    deploy_model(path, tmp_path / "image", DeployOptions("docker", "m", request.param))
    return request.param, tmp_path / "image"


def steps(folder: Path) -> dict[str, list[str]]:
    """Instruction -> its values, as the parser reads them."""
    found: dict[str, list[str]] = {}
    for step in dockerfile_parse.DockerfileParser(str(folder / "Dockerfile")).structure:
        found.setdefault(step["instruction"], []).append(step["value"])
    return found


def test_dockerfile(image):
    server, folder = image
    found = steps(folder)
    known = {"ARG", "FROM", "RUN", "USER", "WORKDIR", "COPY", "EXPOSE", "HEALTHCHECK", "CMD", "COMMENT"}
    assert set(found) <= known
    assert found["EXPOSE"] == [" ".join(map(str, PORTS[server]))]
    (copied,) = found["COPY"]
    source, target = copied.split()
    assert (folder / source / "m" / "1").is_dir()
    (command,) = found["CMD"]
    words = json.loads(command)
    assert words[0] == {"triton": "tritonserver", "mlserver": "mlserver"}[server]
    assert words[-1].removeprefix("--model-repository=") == target
    (check,) = found["HEALTHCHECK"]
    options, _, probe = check.partition(" CMD ")
    assert options == "--start-period=60s"
    assert f"http://127.0.0.1:{PORTS[server][0]}/v2/health/ready" in json.loads(probe)[-1]


def test_versions_in_the_image(image):
    server, folder = image
    found = steps(folder)
    if server == "mlserver":
        assert found["FROM"] == ["python:3.12-slim"]
        pins = found["RUN"][0].split()
        assert {f"mlserver=={MLSERVER_RELEASE}", f"onnxruntime=={onnxruntime.__version__}"} <= set(pins)
        assert json.loads((folder / "models" / "settings.json").read_text())["host"] == "0.0.0.0"
    else:
        (release,) = (value.removeprefix("TRITON=") for value in found["ARG"])
        assert tuple(map(int, release.split("."))) >= (25, 12), "ONNX Runtime 1.23 or newer"
        assert found["FROM"] == ["nvcr.io/nvidia/tritonserver:${TRITON}-py3"]


def test_compose_file(image):
    server, folder = image
    ports = [f"127.0.0.1:{port}:{port}" for port in PORTS[server]]
    service = {"build": ".", "restart": "unless-stopped", "init": True, "ports": ports}
    assert yaml.safe_load((folder / "compose.yaml").read_text("utf-8")) == {"services": {"server": service}}


def test_triton_finds_the_library_in_the_image(digits, tmp_path):
    deploy_model(digits, tmp_path / "image", DeployOptions("docker", "digits", "triton"))
    (copied,) = steps(tmp_path / "image")["COPY"]
    source, target = copied.split()
    config = (tmp_path / "image" / source / "digits" / "config.pbtxt").read_text("utf-8")
    (named,) = (line.split('"')[1] for line in config.splitlines() if "op_library_filename" in line)
    assert (tmp_path / "image" / source / PurePosixPath(named).relative_to(target)).is_file()


def test_what_the_user_changed_stays(image, tmp_path):
    server, folder = image
    (folder / "Dockerfile").write_text("FROM mine\n")
    assert deploy_model(tmp_path / "m.onnx", folder, DeployOptions("docker", "m", server)).version == 2
    assert (folder / "Dockerfile").read_text() == "FROM mine\n"
