"""Every test that takes `cpu_path` runs once per path that this machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcompiler import runtime_ops


def detected_paths() -> list[str]:
    try:
        return [path.name for path in runtime_ops.cpu_paths() if path.built and path.detected]
    except runtime_ops.LibraryError:
        return []


# Without a compiler the package installs without its library, on purpose. With QCOMPILER_NATIVE=1, as in .ci/run, that
# is an error of the installation, so this skip cannot hide a broken build there.
@pytest.fixture(
    params=detected_paths() or [pytest.param("", marks=pytest.mark.skip(reason="no operator library"))], scope="module"
)
def cpu_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The path that sessions created in the test use."""
    runtime_ops.select_cpu_path(request.param)
    yield request.param
    runtime_ops.select_cpu_path(None)


@pytest.fixture(scope="session")
def library() -> str:
    """The operator library's path; tests that need no particular CPU path take this."""
    if not detected_paths():
        pytest.skip("no operator library")
    return str(runtime_ops.library_path())
