"""What a user may choose about a deployment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from qcompiler.errors import OptionError

SERVERS = ("triton", "mlserver")
TARGETS = (*SERVERS, "docker")
MOUNT = "/models"

# Names become folders, URLs and lines of configuration: what is special in any of them is left out.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class DeployOptions:
    """Options of one deployment.

    Attributes:
        target: `triton`, `mlserver`, or `docker` for an image that holds one of the two.
        name: What clients call the model.
        server: The server inside the image; None where `target` names it.
        instances: Runs of the model at the same time.
        threads: Threads of ONNX Runtime for each session; 0 for all cores.
        max_batch: Most images of one run.
        mount: Where the server finds the repository (Triton only: it takes the library's absolute path).
        without_library: Leave the operator library out; the model runs on its function bodies.

    Raises:
        OptionError: A value makes no sense, or `server` contradicts `target`.
    """

    target: str
    name: str
    server: str | None = None
    instances: int = 1
    threads: int = 0
    max_batch: int = 32
    mount: str = MOUNT
    without_library: bool = False

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise OptionError(f"the target '{self.target}' is none of {', '.join(TARGETS)}")
        if self.server is not None and self.server not in SERVERS:
            raise OptionError(f"the server '{self.server}' is none of {', '.join(SERVERS)}")
        if self.target != "docker" and self.server not in (None, self.target):
            raise OptionError(f"--server {self.server} contradicts --target {self.target}; use it with --target docker")
        if self.target == "docker" and self.server is None:
            raise OptionError("--target docker needs --server triton or --server mlserver")
        if not _NAME.fullmatch(self.name):
            raise OptionError(
                f"'{self.name}' cannot be a model's name on a server; pass one of letters, digits, '.', '_' and '-' "
                "with --name"
            )
        if min(self.instances, self.max_batch) < 1 or self.threads < 0:
            raise OptionError("--instances and --max-batch are at least 1, --threads at least 0")
        if self.target != "triton" and self.mount != MOUNT:
            raise OptionError(f"--mount is for --target triton; --target {self.target} needs none")
        if not PurePosixPath(self.mount).is_absolute():
            raise OptionError(f"--mount '{self.mount}' is not an absolute path; the server needs the library's")

    @property
    def served_by(self) -> str:
        """`triton` or `mlserver`."""
        return self.server or self.target
