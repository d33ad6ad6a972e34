"""A real MLServer process on a repository that `qcompile deploy` wrote, reachable from this machine only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

HOST = "127.0.0.1"
_START = "import sys; from mlserver.cli import main; sys.argv = ['mlserver', 'start', sys.argv[1]]; main()"
_PORTS = ("http_port", "grpc_port", "metrics_port")
# Generous: nothing is measured with it, and machines that run tests can be busy.
_START_SECONDS = 600


class Server:
    """One server; `start` and `kill` may alternate, the address stays the same."""

    def __init__(self, repository: Path, log: Path) -> None:
        self._repository, self._log = repository, log
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self._choose_ports()

    @property
    def url(self) -> str:
        """Host and port, as tritonclient takes them."""
        return f"{HOST}:{self.port}"

    def start(self, models: Iterable[str]) -> None:
        """Start it and wait until it answers for all of these models."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", _START, str(self._repository)]
            self._process = subprocess.Popen(command, cwd=self._repository, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        waiting = list(models)
        while waiting:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start: {self._log.read_text('utf-8')[-4000:]}")
            if self._ready(waiting[-1]):
                waiting.pop()
            else:
                time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, with whatever it is doing."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        return self._end(signal.SIGTERM)

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(60)

    def _ready(self, model: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.url}/v2/models/{model}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:  # also HTTPError: the model is not loaded yet
            return False

    def _choose_ports(self) -> int:
        sockets = [socket.socket() for _ in _PORTS]
        for item in sockets:
            item.bind((HOST, 0))
        path = self._repository / "settings.json"
        settings = json.loads(path.read_text("utf-8"))
        assert settings["host"] == HOST, "a fresh repository serves this machine only"
        for name, item in zip(_PORTS, sockets, strict=True):
            settings[name] = item.getsockname()[1]
            item.close()
        path.write_text(json.dumps(settings), "utf-8")
        return int(settings["http_port"])


def post(url: str, model: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Send a body as it is; returns status and answer."""
    address = f"http://{url}/v2/models/{model}/infer"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
