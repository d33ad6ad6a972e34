"""A real MLServer on what `qcompile deploy` wrote: right answers, refusals, a crash, load."""

from __future__ import annotations

import gzip
import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler import runtime_ops
from qcompiler.deploy import DeployOptions, deploy_model
from qcompiler.deploy.mlserver import MLSERVER_RELEASE

from .load import exchanges, run_load
from .server import Server, post

client_library = pytest.importorskip("tritonclient.http", reason="the extra serving-test is not installed")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlserver") is None, reason="the extra serving-test is not installed"
)

MODELS = ("digits", "float")
MAX_BATCH = 8


@pytest.fixture(scope="module")
def server(digits: Path, float_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The compiled and the float model behind one server."""
    folder = tmp_path_factory.mktemp("server")
    repository = folder / "models"
    for name, path in zip(MODELS, (digits, float_digits), strict=True):
        deploy_model(path, repository, DeployOptions("mlserver", name, instances=2, threads=1, max_batch=MAX_BATCH))
    started = Server(repository, folder / "server.log")
    started.start(MODELS)
    yield started
    started.kill()


@pytest.fixture(scope="module")
def expected(digits: Path, float_digits: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a local session answers, for all images."""
    paths = dict(zip(MODELS, (digits, float_digits), strict=True))
    return {name: runtime_ops.session(path, threads=1).run(None, {"input": images})[0] for name, path in paths.items()}


def infer(client: Any, model: str, images: np.ndarray, request_id: str = "") -> np.ndarray:
    tensor = client_library.InferInput("input", list(images.shape), "FP32").set_data_from_numpy(
        images, binary_data=False
    )
    wanted = [client_library.InferRequestedOutput("logits", binary_data=False)]
    answer = client.infer(model, [tensor], outputs=wanted, request_id=request_id)
    assert not request_id or answer.get_response()["id"] == request_id
    found: np.ndarray = answer.as_numpy("logits")
    return found


def test_the_image_that_docker_builds_has_the_release_that_is_tested():
    assert version("mlserver") == MLSERVER_RELEASE


def test_metadata(server):
    client = client_library.InferenceServerClient(server.url)
    assert client.is_server_ready()
    described = client.get_model_metadata("digits")
    assert described["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 24, 24]}]
    assert described["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
    assert described["versions"] == ["1"]


def test_concurrent_clients_get_the_answers_of_a_local_session(server, images, expected):
    """Bit by bit, at every size of batch, whoever else is asking."""
    wrong: list[str] = []
    answers: list[int] = []

    def ask(number: int) -> None:
        client = client_library.InferenceServerClient(server.url)
        draw = np.random.default_rng(number)
        for turn in range(12):
            size = int(draw.integers(1, MAX_BATCH + 1))
            begin = int(draw.integers(0, len(images) - size))
            model = MODELS[(number + turn) % 2]
            found = infer(client, model, images[begin : begin + size], f"{number}-{turn}")
            if not np.array_equal(found, expected[model][begin : begin + size]):
                wrong.append(f"{model} {begin}+{size}")
            answers.append(size)
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(answers) == 6 * 12


def request(images: np.ndarray, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "input", "datatype": "FP32", "shape": list(images.shape), "data": images.ravel().tolist()}
    return {"inputs": [{**tensor, **changes}]}


def malformed(images: np.ndarray) -> dict[str, bytes]:
    """Requests that no model could answer, by what is wrong with them."""
    two = images[:2]
    whole, count = request(two), two.size
    values: list[Any] = two.ravel().tolist()
    wrong: dict[str, Any] = {
        "wrong shape": request(two, shape=[2, 1, 24, 25]),
        "wrong rank": request(two, shape=[2, 576]),
        "too few values": request(two, data=values[:-1]),
        "too many values": request(two, data=[*values, 0.0]),
        "no values": request(two, data=[]),
        "no data": {"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 1, 24, 24]}]},
        "ragged": request(two, data=[[1.0], [1.0, 2.0]]),
        "negative size": request(two, shape=[-2, 1, 24, 24]),
        "no images": request(two[:0]),
        "more images than are allowed": request(images[: MAX_BATCH + 1]),
        "a size beyond all memory": request(two, shape=[10**12, 1, 24, 24]),
        "a size that is no whole number": request(two, shape=[2.5, 1, 24, 24]),
        "other element type": request(two, datatype="FP64"),
        "unknown element type": request(two, datatype="FP99"),
        "text": request(two, datatype="BYTES", data=["x"] * count),
        "text for numbers": request(two, data=["1.0"] * count),
        "null": request(two, data=[None] * count),
        "booleans": request(two, data=[True] * count),
        "beyond float32": request(two, data=[1e39] * count),
        "other name": request(two, name="images"),
        "twice the same input": {"inputs": whole["inputs"] * 2},
        "an input too many": {"inputs": [*whole["inputs"], {**whole["inputs"][0], "name": "more"}]},
        "no inputs": {"inputs": []},
        "empty object": {},
        "a list": [1, 2],
        "unknown output": {**whole, "outputs": [{"name": "scores"}]},
    }
    bodies = {name: json.dumps(value).encode() for name, value in wrong.items()}
    text = json.dumps(whole).encode()
    return {
        **bodies,
        "empty body": b"",
        "truncated JSON": text[:-20],
        "cut in the middle": text[: len(text) // 2],
        "no JSON": b"\xff\x00\xfe" * 100,
        "not a number": text.replace(b"0.0", b"NaN", 1),
        "beyond float64": text.replace(b"0.0", b"1e400", 1),
        "deep nesting": b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "16 MB": json.dumps(request(np.ones((7000, 1, 24, 24), np.float32))).encode(),
    }


def test_malformed_requests_are_refused_and_hurt_nobody(server, images, expected):
    """Each is answered by a 4xx with a reason; whoever asks properly at the same time gets right answers."""
    done = threading.Event()
    neighbours: list[bool] = []

    def neighbour() -> None:
        client = client_library.InferenceServerClient(server.url)
        while not done.is_set():
            neighbours.append(np.array_equal(infer(client, "digits", images[:3]), expected["digits"][:3]))
        client.close()

    thread = threading.Thread(target=neighbour)
    thread.start()
    try:
        statuses = {what: post(server.url, "digits", body) for what, body in malformed(images).items()}
        statuses["unknown model"] = post(server.url, "nobody", json.dumps(request(images[:1])).encode())
        statuses["unknown version"] = post(server.url, "digits/versions/9", json.dumps(request(images[:1])).encode())
        statuses["no gzip"] = post(server.url, "digits", b"certainly not", {"Content-Encoding": "gzip"})
    finally:
        done.set()
        thread.join()
    refused = {what: status for what, (status, _) in statuses.items() if 400 <= status < 500}
    assert refused == {what: status for what, (status, _) in statuses.items()}
    assert all(answer for _, answer in statuses.values()), "a refusal gives its reason"
    assert "Traceback" not in str(list(statuses.values()))
    assert neighbours
    assert all(neighbours)
    assert server.alive()
    compressed = gzip.compress(json.dumps(request(images[:1])).encode())
    assert post(server.url, "digits", compressed, {"Content-Encoding": "gzip"})[0] == 200


def test_tritonclient_tells_what_was_wrong(server, images):
    client = client_library.InferenceServerClient(server.url)
    with pytest.raises(client_library.InferenceServerException, match="1 to 8 images"):
        infer(client, "digits", images[: MAX_BATCH + 1])
    with pytest.raises(client_library.InferenceServerException, match="the model reads"):
        infer(client, "digits", images[:1, :, :20])


def test_a_killed_server_loses_nothing_that_it_answered_and_serves_the_same_again(server, images, expected):
    """Clients that repeat what got no answer have all answers in the end, and all of them are right."""
    got: dict[int, list[np.ndarray]] = {}
    failures: list[str] = []
    first = threading.Event()

    def ask(number: int) -> None:
        answers: list[np.ndarray] = []
        got[number] = answers
        deadline = time.monotonic() + 240
        while len(answers) < 20 and time.monotonic() < deadline:
            # A client of its own for every attempt: the connection is gone with the server.
            client = client_library.InferenceServerClient(server.url)
            begin = 2 * len(answers)
            try:
                answers.append(infer(client, "digits", images[begin : begin + 2]))
                first.set()
            except Exception as error:  # refused, cut off, or not ready yet
                failures.append(type(error).__name__)
                time.sleep(0.2)
            finally:
                client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert first.wait(60)
    server.kill()
    assert not server.alive()
    server.start(MODELS)
    for thread in threads:
        thread.join()
    assert failures, "the server was killed under load"
    for answers in got.values():
        assert np.array_equal(np.concatenate(answers), expected["digits"][:40])


def test_a_few_seconds_of_load(server, digits, float_digits, images):
    paths = dict(zip(MODELS, (digits, float_digits), strict=True))
    requests = {name: exchanges(path, images, 4) for name, path in paths.items()}
    tallies = run_load(server, requests, clients=8, seconds=dict.fromkeys(MODELS, 2), slice_seconds=1)
    for tally in tallies.values():
        assert (tally.failed, tally.wrong, tally.reasons) == (0, 0, [])
        assert tally.answers > 0


def test_a_new_version_is_served_beside_the_old_one(digits, float_digits, images, tmp_path):
    """Also: the server ends when it is asked to."""
    repository, options = tmp_path / "models", DeployOptions("mlserver", "digits", threads=1)
    for path in (float_digits, digits):
        deploy_model(path, repository, options)
    server = Server(repository, tmp_path / "server.log")
    server.start(["digits/versions/1", "digits/versions/2"])
    try:
        part = images[:2]
        found = {}
        for number in ("1", "2", ""):
            where = f"digits/versions/{number}" if number else "digits"
            status, answer = post(server.url, where, json.dumps(request(part)).encode())
            assert status == 200
            (output,) = json.loads(answer)["outputs"]
            found[number] = np.array(output["data"], np.float32).reshape(output["shape"])
        for number, path in (("1", float_digits), ("2", digits), ("", digits)):
            local = runtime_ops.session(path, threads=1).run(None, {"input": part})[0]
            assert np.array_equal(found[number], local)
        assert not np.array_equal(found["1"], found["2"])
        assert server.stop() == 0
    finally:
        server.kill()


def test_a_missing_library_stops_the_server_instead_of_serving_slowly(digits, tmp_path):
    repository = tmp_path / "models"
    deploy_model(digits, repository, DeployOptions("mlserver", "digits"))
    (library,) = repository.rglob("*.so")
    library.unlink()
    server = Server(repository, tmp_path / "server.log")
    with pytest.raises(RuntimeError, match=r"libqcompiler_ops\.so"):
        server.start(["digits"])
