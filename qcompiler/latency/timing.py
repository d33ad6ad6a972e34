"""Interleaved times of small models, as multiples of one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from qcompiler import runtime_ops
from qcompiler.evaluation.latency import measure_latency
from qcompiler.evaluation.runs import Run, first_output
from qcompiler.latency.float_layers import Feed

ROUNDS = 7
ROUND_SECONDS = 0.03
ROUND_RUNS = 9

Timed = Callable[[], object]


def timed(model: bytes, feed: Feed, threads: int) -> Timed:
    """A run of a serialized model on its own input."""
    return bound(first_output(runtime_ops.session(model, threads=threads)), feed)


def bound(run: Run, feed: Mapping[str, np.ndarray]) -> Timed:
    """A run on one input."""
    return lambda: run(feed)


def times_over(reference: str, runs: Mapping[str, Timed], threads: int) -> dict[str, float]:
    """Time of every run over that of the reference: the median over interleaved rounds of the ratio within a round.

    On one thread it is the processor's time: where other programs run, a long run is interrupted and a short one is
    not, and their ratio would be that of the interruptions.

    Args:
        reference: Label in ``runs``.
        runs: What to time, by label.
        threads: Threads of the sessions, for the record.
    """
    results = measure_latency(
        {label: _ignoring_feed(run) for label, run in runs.items()},
        {"": np.zeros(1, np.float32)},
        reference,
        rounds=ROUNDS,
        threads=threads,
        round_seconds=ROUND_SECONDS,
        round_runs=ROUND_RUNS,
        clock=time.thread_time if threads == 1 else time.perf_counter,
    )
    return {result.model: 1 / result.ratio for result in results}


def _ignoring_feed(run: Timed) -> Run:
    return lambda _: np.asarray(run())
