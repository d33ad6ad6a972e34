"""How a compilation tells what it is doing; the command line draws it, a library call stays silent."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the stages of a compilation."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage begins; ``total`` steps if their number is known."""

    def advance(self, steps: int = 1) -> None:
        """So many steps of the current stage are done."""


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, steps: int = 1) -> None:
        """Do nothing."""
