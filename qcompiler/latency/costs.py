"""Costs of layers as measured on this machine: what is not in the cache is timed, and kept there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from qcompiler.evaluation.runs import Feed, Run
from qcompiler.latency.cache import LatencyCache
from qcompiler.latency.float_layers import float_layer
from qcompiler.latency.kinds import Kind, representative
from qcompiler.latency.lowered_layers import lowered_layer
from qcompiler.latency.machine import Machine
from qcompiler.latency.shapes import Shape
from qcompiler.latency.timing import Timed, bound, timed, times_over
from qcompiler.progress import Progress, Silent

FLOAT = "float"


class MeasuredCosts:
    """Measures what it is asked for.

    Args:
        machine: What the measurements hold for.
        cache: Where they are kept.
        progress: Told about every shape.
    """

    def __init__(self, machine: Machine, cache: LatencyCache, progress: Progress | None = None) -> None:
        self.machine = machine
        self._cache = cache
        self._progress = progress or Silent()

    def ratios(self, kinds: Iterable[Kind]) -> dict[Kind, float]:
        """Time of every operator over that of the same layer in float, both on this machine.

        All operators of one shape are timed in the same interleaved rounds.
        """
        wanted = {kind: representative(kind, self.machine.path) for kind in dict.fromkeys(kinds)}
        missing = [kind for kind in dict.fromkeys(wanted.values()) if self._cache.get("ratios", repr(kind)) is None]
        by_shape = sorted(missing, key=lambda kind: repr(kind.shape))
        groups = [list(group) for _, group in groupby(by_shape, key=lambda kind: kind.shape)]
        if groups:
            self._progress.stage("time operators", len(groups))
        for group in groups:
            self._cache.add("ratios", self._measure(group))
            self._progress.advance()
        return {kind: self._known("ratios", repr(stands_for)) for kind, stands_for in wanted.items()}

    def exact_ratios(self, kinds: Iterable[Kind]) -> dict[Kind, float]:
        """As :meth:`ratios`, for kinds of one shape, each timed as it is instead of by one that stands for it.

        Nothing of it is cached one by one: whoever compares such times wants all of them from the same rounds.
        """
        found = dict.fromkeys(kinds)
        names = {kind: f"exact {kind!r}" for kind in found}
        if any(self._cache.get("ratios", name) is None for name in names.values()):
            measured = self._measure(list(found))
            self._cache.add("ratios", {names[kind]: measured[repr(kind)] for kind in found})
        return {kind: self._known("ratios", name) for kind, name in names.items()}

    def shares(self, model: str, run: Run, feed: Feed, shapes: Iterable[Shape]) -> dict[Shape, float]:
        """Time of one float layer of every shape as a share of the whole float model's time for one image.

        Args:
            model: What the cache knows the model by.
            run: Runs the float model.
            feed: Its input, of one image or of the batch that it fixes.
            shapes: Layers.
        """
        names = {shape: f"{model} {shape!r}" for shape in dict.fromkeys(shapes)}
        if any(self._cache.get("shares", name) is None for name in names.values()):
            self._progress.stage("time the float model")
            runs: dict[str, Timed] = {FLOAT: bound(run, feed)}
            runs |= {name: timed(*float_layer(shape), self.machine.threads) for shape, name in names.items()}
            found = times_over(FLOAT, runs, self.machine.threads)
            images = len(next(iter(feed.values())))
            self._cache.add("shares", {name: found[name] * images for name in names.values()})
        return {shape: self._known("shares", name) for shape, name in names.items()}

    def _measure(self, kinds: list[Kind]) -> Mapping[str, float]:
        """Ratios of kinds of one shape, by their text."""
        threads = self.machine.threads
        runs: dict[str, Timed] = {FLOAT: timed(*float_layer(kinds[0].shape), threads)}
        runs |= {repr(kind): timed(*lowered_layer(kind), threads) for kind in kinds}
        found = times_over(FLOAT, runs, threads)
        return {label: value for label, value in found.items() if label != FLOAT}

    def _known(self, section: str, key: str) -> float:
        value = self._cache.get(section, key)
        assert value is not None  # measured above
        return value
