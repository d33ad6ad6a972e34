"""How long every stage of a run took."""

from __future__ import annotations

import time

from qcompiler.progress import Progress


class StageClock:
    """Passes progress on and times the stages that are announced; each lasts until the next one, or until :meth:`stop`.

    Args:
        told: Where progress is passed on to.

    Attributes:
        seconds: Time of every stage so far, by its name; of all together where a name comes again.
    """

    def __init__(self, told: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._told = told
        self._running: tuple[str, float] | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage begins; ``total`` steps if their number is known."""
        self.stop()
        self._running = name, time.perf_counter()
        self._told.stage(name, total)

    def advance(self, steps: int = 1) -> None:
        """So many steps of the current stage are done."""
        self._told.advance(steps)

    def stop(self) -> None:
        """The current stage ends, if there is one."""
        if self._running is None:
            return
        name, begin = self._running
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
        self._running = None
