"""Layers in parts that fit in memory, each with a run over the data of its own."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def memory_parts(sizes: Mapping[Key, int], limit: int) -> Iterator[list[Key]]:
    """Layers in order, as many at a time as the limit allows, at least one.

    Args:
        sizes: Bytes that each layer needs, by its key.
        limit: Bytes of a part.
    """
    part: list[Key] = []
    held = 0
    for key, size in sizes.items():
        if part and held + size > limit:
            yield part
            part, held = [], 0
        part.append(key)
        held += size
    if part:
        yield part
