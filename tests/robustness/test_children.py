"""The harness sees crashes, hangs and wrong results, charges them to the right attempt, and goes on behind them."""

from __future__ import annotations

import numpy as np
import pytest

from . import children
from .children import CRASHED, HUNG, RAN, REFUSED, WRONG, attempts, counts

PLANNED = (CRASHED, HUNG, WRONG, REFUSED, RAN)


def test_every_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPILER_ATTEMPT_SECONDS", "1")
    monkeypatch.setattr(children, "BUSY_SECONDS", 1.0)
    planned = {seed: PLANNED[np.random.default_rng([*b"doomed", seed]).integers(5)] for seed in range(40)}
    # One of each that must not happen, with others before and behind them.
    seeds = [next(seed for seed in planned if planned[seed] == outcome) for outcome in (RAN, *PLANNED, REFUSED)]
    found = attempts("doomed", seeds)
    assert [(attempt.seed, attempt.outcome) for attempt in found] == [(seed, planned[seed]) for seed in seeds]
    assert counts(found) == {"tried": 7, "refused": 2, "ran": 2, "crashed": 1, "hung": 1, "wrong": 1}
    assert [attempt.failed for attempt in found] == [False, True, True, True, False, False, False]
