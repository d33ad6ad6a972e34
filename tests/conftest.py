"""What every test run says: about the machine and the library it met, and on request which tests it skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

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


class SkippedTests:
    """Writes what a run skipped as arguments of another run, which may find the packages that this one lacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, None] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._add(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._add(report)

    def pytest_sessionfinish(self) -> None:
        self._path.write_text("".join(f"{name}\n" for name in self._names), "utf-8")

    def _add(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._names[report.nodeid] = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--skipped-to", type=Path, metavar="FILE", help="write the skipped tests, for `pytest @FILE`")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--skipped-to")
    if path is not None:
        config.pluginmanager.register(SkippedTests(path.absolute()))
