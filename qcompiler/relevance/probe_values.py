"""The float run on the probe images: predictions, and the tensors that suffixes start from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from qcompiler.calibration.inputs import Feed
from qcompiler.errors import NonFiniteError
from qcompiler.ir.outputs import with_outputs
from qcompiler.quant.groups import F32
from qcompiler.relevance.array_store import Array, ArrayStore
from qcompiler.relevance.skeleton import Skeleton
from qcompiler.relevance.suffix import Operand, SuffixGraph

Place: TypeAlias = tuple[str, int]
"""Name of a tensor, number of a feed."""


@dataclass(frozen=True)
class ProbeValues:
    """What the float model gives on the probe images.

    Attributes:
        logits: First output of the model for each feed.
        inputs: Names of the model's inputs.
        arrays: The model's inputs and every stored tensor, for each feed.
    """

    logits: tuple[F32, ...]
    inputs: frozenset[str]
    arrays: ArrayStore[Place]

    @property
    def feeds(self) -> range:
        """Numbers of the feeds."""
        return range(len(self.logits))

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the tensors that are not stored."""
        return [name for name in names if (name, 0) not in self.arrays]

    def of(self, names: Iterable[str], feed: int) -> dict[str, Array]:
        """Stored tensors of one feed."""
        return {name: self.arrays.get((name, feed)) for name in names}

    def in_files(self, folder: Path) -> ProbeValues:
        """The same with arrays in files.

        Raises:
            OutputPathError: The folder cannot be written.
        """
        return replace(self, arrays=self.arrays.in_files(folder))

    def in_memory(self) -> ProbeValues:
        """The same with arrays in memory."""
        return replace(self, arrays=self.arrays.in_memory())


def probe_values(
    skeleton: Skeleton,
    feeds: Sequence[Feed],
    operands: Iterable[Operand],
    threads: int,
    byte_limit: int,
    folder: Path | None = None,
) -> ProbeValues:
    """Run the float model once on every feed.

    Args:
        skeleton: Canonical float model.
        feeds: Probe images, at least one feed.
        operands: Operands whose suffixes will run. A suffix starts from stored values only if the operand and all of
            its frontier fit below the limit; those nearest to the output come first, as they spare the longest run.
        threads: Threads of ONNX Runtime, 0 for all cores.
        byte_limit: Most bytes of stored tensors, each counted once; the images and the predictions come on top. One
            feed's candidates for storage are in memory as well while the run passes.
        folder: Folder to make for the values; None keeps them in memory.

    Raises:
        NonFiniteError: The float prediction holds NaN or infinity.
        OutputPathError: The folder cannot be written.
    """
    model = skeleton.model
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    starts = _starts(skeleton, operands, inputs) if byte_limit > 0 else []
    candidates = list(dict.fromkeys(name for names in starts for name in names))
    session = skeleton.session(with_outputs(model, candidates), threads)
    first = model.graph.output[0].name
    logits: list[F32] = []

    def arrays() -> Iterator[tuple[Place, Array]]:
        stored: list[str] | None = None
        for number, feed in enumerate(feeds):
            values = session.run(feed, [first, *(name for name in candidates if name != first)])
            logits.append(_finite(values[first]))
            if stored is None:
                scale = sum(map(_images, feeds)) / _images(feed)
                stored = fitting(starts, {name: values[name].nbytes * scale for name in candidates}, byte_limit)
            yield from (((name, number), feed[name]) for name in inputs)
            yield from (((name, number), values[name]) for name in stored)

    stored_arrays = ArrayStore[Place].of(arrays(), folder)
    return ProbeValues(tuple(logits), frozenset(inputs), stored_arrays)


def fitting(starts: Sequence[Sequence[str]], sizes: Mapping[str, float], limit: float) -> list[str]:
    """Tensors to store: whole sets, in the order given, each one that still fits; a tensor counts once."""
    chosen: dict[str, None] = {}
    used = 0.0
    for names in starts:
        new = [name for name in dict.fromkeys(names) if name not in chosen]
        size = sum(sizes[name] for name in new)
        if used + size <= limit:
            chosen.update(dict.fromkeys(new))
            used += size
    return list(chosen)


def _starts(skeleton: Skeleton, operands: Iterable[Operand], inputs: Sequence[str]) -> list[list[str]]:
    """What each suffix starts from, apart from the model's inputs, the last node first."""
    graph = SuffixGraph(skeleton.model)
    order = {node.name: place for place, node in enumerate(skeleton.model.graph.node)}
    last_first = sorted(operands, key=lambda operand: -order[operand.node])
    found = ([operand.tensor, *graph.frontier(operand)] for operand in last_first)
    return [[name for name in dict.fromkeys(names) if name not in inputs] for names in found]


def _images(feed: Feed) -> int:
    return len(next(iter(feed.values())))


def _finite(logits: F32) -> F32:
    if not np.isfinite(logits).all():
        raise NonFiniteError("the float model predicts NaN or infinity: check the model and the images it is run on")
    return logits
