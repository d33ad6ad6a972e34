"""A bound in bytes for work that runs in threads, where a number of threads says nothing about memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryGate:
    """Lets pieces of work in while what they hold together stays within a limit.

    Args:
        limit: Bytes; a piece of work that needs more runs alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until there is room, and keep it inside the block.

        Args:
            size: Bytes that the block needs at most.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()
