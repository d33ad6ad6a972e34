"""Load on a real MLServer: a compiled model beside its float original on the same server.

    python -m tests.deploy.load FLOAT.onnx COMPILED.onnx --images FILE.npz [--seconds 60] [--clients 8] [--batch 8]

Every client sends one request after the other and compares each answer with a local session, bit by bit. The two models
take turns in slices of a few seconds, so that what else the machine does hits both alike. Exit code 1 where a request
failed, an answer was wrong or a model gave none. Needs the extra 'serving-test'.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np

from qcompiler import runtime_ops
from qcompiler.deploy import DeployOptions, deploy_model

from .server import Server

_SLICE = 5.0  # seconds that one model is asked before the other's turn


@dataclass(frozen=True)
class Exchange:
    """A request, ready to be sent, and what the model must answer.

    Attributes:
        body: The request.
        expected: The model's only output, float32.
    """

    body: bytes
    expected: np.ndarray


@dataclass
class Tally:
    """What became of the requests of one model.

    Attributes:
        images: Images in right answers.
        answers: Right answers.
        failed: Requests without an answer, or refused.
        wrong: Answers that differ from the local session's.
        seconds: Time that the model was asked for.
        reasons: The first failures, in words.
    """

    images: int = 0
    answers: int = 0
    failed: int = 0
    wrong: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Images in a second."""
        return self.images / self.seconds if self.seconds else 0.0


def exchanges(model: Path, images: np.ndarray, batch: int) -> list[Exchange]:
    """Requests of `batch` images each, encoded by tritonclient, with the answers of a local session."""
    from tritonclient.http import InferenceServerClient, InferInput

    session = runtime_ops.session(model, threads=1)
    (name,) = (item.name for item in session.get_inputs())
    made = []
    for begin in range(0, len(images) - batch + 1, batch):
        part = images[begin : begin + batch]
        tensor = InferInput(name, list(part.shape), "FP32").set_data_from_numpy(part, binary_data=False)
        body, _ = InferenceServerClient.generate_request_body([tensor])
        made.append(Exchange(body if isinstance(body, bytes) else body.encode(), session.run(None, {name: part})[0]))
    return made


def ask(url: str, model: str, requests: Sequence[Exchange], clients: int, seconds: float, tally: Tally) -> None:
    """Let so many clients ask one model for so long; what they found is added to `tally`."""
    lock = threading.Lock()
    begin = time.monotonic()

    def client(number: int) -> None:
        connection = HTTPConnection(url, timeout=60)
        turn = number
        while time.monotonic() - begin < seconds:
            exchange = requests[turn % len(requests)]
            turn += 1
            try:
                right, reason = _exchange(connection, model, exchange), ""
            except (OSError, HTTPException, ValueError, KeyError) as error:
                right, reason = None, f"{type(error).__name__}: {error}"
                connection.close()
            with lock:
                tally.answers += right is True
                tally.images += len(exchange.expected) if right else 0
                tally.wrong += right is False
                tally.failed += right is None
                if right is None and len(tally.reasons) < 5:
                    tally.reasons.append(reason)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.seconds += time.monotonic() - begin


def _exchange(connection: HTTPConnection, model: str, exchange: Exchange) -> bool:
    """Send one request; whether the answer is right. Raises ValueError where the server refuses."""
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"/v2/models/{model}/infer", exchange.body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise ValueError(f"status {answer.status}: {text[:200]!r}")
    (output,) = json.loads(text)["outputs"]
    # JSON holds every float32 exactly.
    found = np.array(output["data"], np.float32).reshape(output["shape"])
    return bool(np.array_equal(found, exchange.expected))


def run_load(
    server: Server,
    requests: Mapping[str, Sequence[Exchange]],
    clients: int,
    seconds: Mapping[str, float],
    slice_seconds: float = _SLICE,
) -> dict[str, Tally]:
    """Ask all models in turns.

    Args:
        server: A server that is running.
        requests: Model -> its requests.
        clients: Clients at the same time.
        seconds: Model -> time that it is asked for in all.
        slice_seconds: Longest turn; all models have the same number of them.

    Returns:
        Model -> what became of its requests.
    """
    tallies = {model: Tally() for model in requests}
    turns = math.ceil(max(seconds.values()) / slice_seconds)
    for _ in range(turns):
        for model, tally in tallies.items():
            ask(server.url, model, requests[model], clients, seconds[model] / turns, tally)
    return tallies


def main() -> int:
    """The command of the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("float", type=Path, metavar="FLOAT")
    parser.add_argument("compiled", type=Path, metavar="COMPILED")
    parser.add_argument("--images", type=Path, required=True, help="an .npz with an array of the models' input")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the compiled model is asked for")
    parser.add_argument("--float-seconds", type=float, help="that the float model is asked for; as long by default")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    models = {"float": arguments.float, "compiled": arguments.compiled}
    seconds = {"float": arguments.float_seconds or arguments.seconds, "compiled": arguments.seconds}
    with np.load(arguments.images) as data:
        images = data[data.files[0]][: 8 * arguments.batch]
    requests = {name: exchanges(path, images, arguments.batch) for name, path in models.items()}
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        for name, path in models.items():
            options = DeployOptions("mlserver", name, instances=arguments.instances, threads=arguments.threads)
            deploy_model(path, repository, options)
        server = Server(repository, Path(folder) / "server.log")
        server.start(models)
        try:
            tallies = run_load(server, requests, arguments.clients, seconds)
        finally:
            server.kill()
    for name, tally in tallies.items():
        for reason in tally.reasons:
            print(f"{name}: {reason}")
        print(
            f"{name}: {tally.answers} right answers in {tally.seconds:.0f} s from {arguments.clients} clients, "
            f"{tally.failed} failed, {tally.wrong} wrong, {tally.rate:.1f} images/s, "
            f"{tally.rate / (tallies['float'].rate or math.nan):.2f} times float"
        )
    return int(any(tally.failed or tally.wrong or not tally.answers for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
