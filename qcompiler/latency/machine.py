"""What measured times hold for: this processor, with these libraries."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime

from qcompiler import runtime_ops
from qcompiler.errors import RuntimeLibraryError

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A processor and what runs on it.

    Attributes:
        processor: Name of its model.
        path: CPU path of the operator library.
        library: Version of the operator library, and a hash of its file: a rebuilt one is another one.
        onnxruntime: Version of ONNX Runtime.
        threads: Threads of a session.
    """

    processor: str
    path: str
    library: str
    onnxruntime: str
    threads: int

    def to_dict(self) -> dict[str, str | int]:
        """For the cache's file."""
        return asdict(self)


def this_machine(threads: int) -> Machine:
    """The machine that this process runs on.

    Raises:
        RuntimeLibraryError: There is no operator library, so that no time would tell anything about the operators.
    """
    try:
        file = runtime_ops.library_path()
        path = next((item.name for item in runtime_ops.cpu_paths() if item.active), "reference")
        library = f"{runtime_ops.library_version()} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(f"--latency-budget times the operators of this machine: {error}") from error
    return Machine(_processor(), path, library, onnxruntime.__version__, threads)


def _processor() -> str:
    try:
        lines = _CPU_INFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
