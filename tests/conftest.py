"""What every test run says about the machine and the library it met."""

from __future__ import annotations

import qcompiler
from qcompiler import runtime_ops


def _paths() -> str:
    try:
        paths = runtime_ops.cpu_paths()
    except runtime_ops.LibraryError as error:
        return f"not usable, its tests are skipped: {error}"
    words = []
    for path in paths:
        state = (
            "active"
            if path.active
            else "tested"
            if path.built and path.detected
            else "not on this processor"
            if path.built
            else "not built"
        )
        words.append(f"{path.name} ({state})")
    return ", ".join(words)


def pytest_report_header() -> list[str]:
    return [
        f"qcompiler: {qcompiler.__version__} from {qcompiler.__path__[0]}",
        f"operator library, CPU paths: {_paths()}",
    ]
