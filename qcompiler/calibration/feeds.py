"""The base of qcompile's own calibration readers, and what they share: limits and batches."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from qcompiler.calibration.inputs import Feed
from qcompiler.errors import OptionError

Item = TypeVar("Item")


class CalibrationReader(Protocol):
    """onnxruntime's CalibrationDataReader with the `rewind` that makes a second run over the data possible."""

    def get_next(self) -> Feed | None:
        """The next feed, or None at the end."""

    def rewind(self) -> None:
        """Start again from the first feed."""


class FeedReader(ABC):
    """Turns a repeatable stream of feeds into a calibration reader.

    onnxruntime recognises a CalibrationDataReader by its `get_next`, so subclasses are accepted wherever it wants one;
    iterating over a reader yields the remaining feeds.
    """

    def __init__(self) -> None:
        self._stream: Iterator[Feed] | None = None

    @abstractmethod
    def feeds(self) -> Iterator[Feed]:
        """A fresh stream over all feeds, in the same order every time."""

    def get_next(self) -> Feed | None:
        """The next feed, or None at the end."""
        if self._stream is None:
            self._stream = self.feeds()
        return next(self._stream, None)

    def rewind(self) -> None:
        """Start again from the first feed."""
        self._stream = None

    def __iter__(self) -> Iterator[Feed]:
        while (feed := self.get_next()) is not None:
            yield feed


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of `count` indices, in order, one from each of `limit` equal stretches of the list.

    A list sorted by class keeps all its classes. The place within a stretch is drawn (fixed seed), because a constant
    step would meet one class only where the classes take turns.

    Raises:
        OptionError: `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"the number of images must be positive, not {limit}")
    if limit is None or limit >= count:
        return list(range(count))
    draw = random.Random(0)
    edges = [stretch * count // limit for stretch in range(limit + 1)]
    return [draw.randrange(low, high) for low, high in itertools.pairwise(edges)]


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last one may be shorter."""
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def stack(rows: Sequence[Feed], batch: int) -> Feed:
    """One feed of exactly `batch` images from 1..batch single images, which are repeated in turn to fill it."""
    filled = [rows[index % len(rows)] for index in range(batch)]
    return {name: np.stack([row[name] for row in filled]) for name in rows[0]}
