"""A few attempts of every family; `python -m tests.robustness.campaign` makes as many as wanted."""

from __future__ import annotations

import os

import pytest

from qcompiler import runtime_ops

from .children import RAN, REFUSED, attempts

# Seconds each; the variable multiplies them for a long run.
COUNTS = {"operators": 120, "models": 80, "compiled": 25, "data": 12}
TIMES = int(os.environ.get("QCOMPILER_ATTEMPTS_TIMES", "1"))


@pytest.mark.parametrize("kind", COUNTS)
def test_an_error_or_a_result(kind: str) -> None:
    """Never a crash, a hang, a traceback, a file left behind, or a result of the wrong shape."""
    if kind in ("operators", "compiled"):
        try:
            runtime_ops.library_path()
        except runtime_ops.LibraryNotFoundError:
            pytest.skip("no operator library")
    found = attempts(kind, range(COUNTS[kind] * TIMES))
    failed = [str(attempt) for attempt in found if attempt.failed]
    assert not failed, "\n".join(failed)
    # Otherwise the attempts were not what they are meant to be.
    assert {attempt.outcome for attempt in found} == {RAN, REFUSED}
