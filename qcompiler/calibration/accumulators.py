"""Streaming accumulators: what is kept of a tensor while calibration data runs through the model.

Each one sees every batch and keeps a bounded amount, so memory does not grow with the number of images. Samples are
drawn by reservoir with a seed of their own: the same data in the same order gives the same statistics.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32, item_ranges
from qcompiler.quant.row_norm import normalize_rows


class Accumulator(Protocol):
    """Takes batches of one tensor and gives back named arrays."""

    def add(self, x: F32) -> None:
        """Take one batch of the tensor."""

    def result(self) -> dict[str, NDArray[np.generic]]:
        """What was kept, by name."""


def as_instances(x: F32) -> F32:
    """``x [..., N, C]`` as ``[instances, N, C]``; a matrix ``[N, C]`` (pooled images) is N instances of one row."""
    return x[:, None, :] if x.ndim == 2 else x.reshape(-1, *x.shape[-2:])


class Reservoir:
    """Uniform sample of at most ``capacity`` rows of a stream of arrays (algorithm R, seeded)."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self._capacity = capacity
        self._generator = np.random.default_rng(seed)
        self._kept: F32 | None = None
        self._seen = 0

    def add(self, rows: F32) -> None:
        """Offer every entry along the first axis of ``rows``."""
        if self._kept is None:
            self._kept = np.empty((self._capacity, *rows.shape[1:]), np.float32)
        room = min(max(self._capacity - self._seen, 0), len(rows))
        self._kept[self._seen : self._seen + room] = rows[:room]
        later = np.arange(self._seen + room, self._seen + len(rows))
        slots = (self._generator.random(len(later)) * (later + 1)).astype(np.int64)
        drawn = slots < self._capacity
        self._kept[slots[drawn]] = rows[room:][drawn]
        self._seen += len(rows)

    def result(self) -> F32:
        """The rows kept so far, ``[min(seen, capacity), ...]``."""
        if self._kept is None:
            raise ValueError("nothing was added")
        return self._kept[: min(self._seen, self._capacity)].copy()


class InstanceSample:
    """A sample of whole instances ``[kept, N, C]``, bounded in number and bytes."""

    MOST_INSTANCES = 16
    MOST_BYTES = 8 << 20

    def __init__(self) -> None:
        self._reservoir: Reservoir | None = None

    def add(self, x: F32) -> None:
        """Offer every instance of a batch."""
        instances = as_instances(x)
        if self._reservoir is None:
            size = instances[0].nbytes
            # Tiny instances (one pooled row, one window) are kept by bytes, so that their number still says something.
            most = max(self.MOST_INSTANCES, (1 << 18) // size)
            self._reservoir = Reservoir(int(np.clip(self.MOST_BYTES // size, 2, most)))
        self._reservoir.add(instances)

    def result(self) -> dict[str, NDArray[np.generic]]:
        """``{"sample": [kept, N, C]}``."""
        return {"sample": self._reservoir.result()} if self._reservoir else {}


class ItemRanges:
    """Minimum and maximum of a sample of items ``[kept, 2]`` for one axis."""

    CAPACITY = 8192

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._reservoir = Reservoir(self.CAPACITY)

    def add(self, x: F32) -> None:
        """Offer the range of every item of a batch."""
        minimum, maximum = item_ranges(as_instances(x), self._axis)
        self._reservoir.add(np.stack([minimum.ravel(), maximum.ravel()], axis=1))

    def result(self) -> dict[str, NDArray[np.generic]]:
        """``{"ranges<axis>": [kept, 2]}``, columns minimum and maximum."""
        return {f"ranges{self._axis}": self._reservoir.result()}


class Normalized:
    """Hands rows divided by their root mean square to other accumulators."""

    def __init__(self, *inner: Accumulator) -> None:
        self._inner = inner

    def add(self, x: F32) -> None:
        """Normalise a batch once and pass it on."""
        normalized = normalize_rows(x)
        for accumulator in self._inner:
            accumulator.add(normalized)

    def result(self) -> dict[str, NDArray[np.generic]]:
        """What the others kept."""
        return {name: array for accumulator in self._inner for name, array in accumulator.result().items()}
