"""A machine that is none, and a cache in a folder of the test."""

from __future__ import annotations

import pytest

from qcompiler import runtime_ops
from qcompiler.latency.machine import Machine


@pytest.fixture
def machine():
    """A processor that nobody has, on a path where widths matter."""
    return Machine("Abacus 9000", "avx2", "1.0 abc", "1.30", 1)


@pytest.fixture
def library():
    """Skips where there is no operator library to time."""
    try:
        return runtime_ops.library_path()
    except runtime_ops.LibraryError as error:
        pytest.skip(str(error))
