"""Time of several models on the same feed, side by side.

A machine's speed drifts by more than the differences of interest, so every round times every model in turn and the
result is the median over rounds of the ratio within a round, never the ratio of two medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from qcompiler.errors import OptionError
from qcompiler.evaluation.runs import Feed, Run


@dataclass(frozen=True)
class Latency:
    """One model on one feed.

    Attributes:
        model: its label.
        batch: images in the feed.
        threads: intra-op threads its session was made with (recorded, not set here).
        rounds: how often all models were timed in turn.
        ms: median over rounds of the median time of a run, milliseconds.
        ratio: median over rounds of reference time / this model's time; above 1 is faster than the reference.
        ratio_low: lower quartile of those ratios.
        ratio_high: upper quartile.
    """

    model: str
    batch: int
    threads: int
    rounds: int
    ms: float
    ratio: float
    ratio_low: float
    ratio_high: float

    def to_dict(self) -> dict[str, object]:
        """For the report and `--json`."""
        return asdict(self)


def measure_latency(
    models: Mapping[str, Run],
    feed: Feed,
    reference: str = "float",
    rounds: int = 9,
    threads: int = 1,
    round_seconds: float = 0.15,
    round_runs: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Latency, ...]:
    """Time all models in interleaved rounds.

    Args:
        models: label -> run; must hold `reference`.
        feed: the input of every run, [batch, ...] each.
        reference: label of the model the ratios refer to.
        rounds: at least 1; every other round goes through the models backwards.
        threads: how many threads the sessions use, for the record.
        round_seconds: a model's turn ends after this time ...
        round_runs: ... or after so many timed runs, whichever comes first; one run before them is not timed.
        clock: seconds.

    Returns:
        One result a model, in the order of `models`.

    Raises:
        OptionError: fewer than one round.
    """
    if rounds < 1:
        raise OptionError(f"--rounds takes a positive number, not {rounds}")
    taken: list[dict[str, float]] = []
    for number in range(rounds):
        # Backwards every other time: a model then does not always follow the same one with its hot or cold caches.
        order = list(models)[:: 1 if number % 2 == 0 else -1]
        taken.append({label: _turn(models[label], feed, round_seconds, round_runs, clock) for label in order})
    batch = len(next(iter(feed.values())))
    return tuple(_summary(label, taken, reference, batch, threads) for label in models)


def _turn(run: Run, feed: Feed, seconds: float, runs: int, clock: Callable[[], float]) -> float:
    run(feed)
    samples: list[float] = []
    begin = clock()
    while not samples or (len(samples) < runs and clock() - begin < seconds):
        start = clock()
        run(feed)
        samples.append(clock() - start)
    return statistics.median(samples)


def _summary(label: str, taken: list[dict[str, float]], reference: str, batch: int, threads: int) -> Latency:
    ratios = [times[reference] / times[label] for times in taken]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Latency(
        model=label,
        batch=batch,
        threads=threads,
        rounds=len(taken),
        ms=1e3 * statistics.median(times[label] for times in taken),
        ratio=statistics.median(ratios),
        ratio_low=low,
        ratio_high=high,
    )
