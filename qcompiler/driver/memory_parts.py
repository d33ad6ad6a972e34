"""Layers in parts that fit in memory, each with a run over the data of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def memory_parts(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Layers in order, as many at a time as the limit allows, at least one.

    Args:
        sizes: Bytes that each layer needs, by its name.
        limit: Bytes of a part.
    """
    part: list[str] = []
    held = 0
    for name, size in sizes.items():
        if part and held + size > limit:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part
