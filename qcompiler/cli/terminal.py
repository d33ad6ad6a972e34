"""What the user sees: results on stdout, warnings and progress on stderr."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from qcompiler.progress import Progress as StageProgress
from qcompiler.progress import Silent

# A pipe has no width: nothing is wrapped or cut there.
_PIPE_WIDTH = 100_000


@dataclass(frozen=True)
class Terminal:
    """Where and how much a command prints.

    Attributes:
        out: Console on stdout.
        err: Console on stderr.
        quiet: Print nothing but errors.
        as_json: Print one JSON object instead of text.
        verbose: Print more.
    """

    out: Console
    err: Console
    quiet: bool = False
    as_json: bool = False
    verbose: bool = False

    @classmethod
    def from_flags(cls, arguments: argparse.Namespace) -> Terminal:
        """The process's own streams under ``--quiet``, ``--json`` and ``--verbose``."""
        return cls(console(sys.stdout), console(sys.stderr), arguments.quiet, arguments.json, arguments.verbose)

    def show(self, *parts: RenderableType) -> None:
        """Print text, unless the user wants none or JSON."""
        if not self.quiet and not self.as_json:
            for part in parts:
                _print(self.out, part)

    def result(self, values: Mapping[str, object]) -> None:
        """Print the result as JSON where that is asked for; ``--quiet`` does not silence what was asked for."""
        if self.as_json:
            print(json.dumps(_json_values(values), allow_nan=False), file=self.out.file)

    def warn(self, texts: Sequence[str]) -> None:
        """Print warnings on stderr, unless the user wants none."""
        if not self.quiet:
            for text in texts:
                self.err.print(Text(f"qcompile: warning: {text}", style="bold yellow"))

    @contextmanager
    def progress(self) -> Iterator[StageProgress]:
        """Progress bars while the block runs, on a terminal; silence otherwise."""
        if self.quiet or not self.err.is_terminal:
            yield Silent()
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.err, transient=True) as bars:
            yield Bars(bars)


class Bars:
    """One bar per stage; a stage ends when the next one begins."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._current: TaskID | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps; None lets the bar pulse."""
        self._finish()
        self._current = self._bars.add_task(name, total=total)

    def advance(self, steps: int = 1) -> None:
        """So many steps of the current stage are done."""
        if self._current is not None:
            self._bars.advance(self._current, steps)

    def _finish(self) -> None:
        """Fill the bar of a stage that ends, also of one that did not know its length."""
        if self._current is not None:
            task = next(task for task in self._bars.tasks if task.id == self._current)
            total = task.total if task.total is not None else max(1.0, task.completed)
            self._bars.update(self._current, total=total, completed=total)


def console(stream: TextIO) -> Console:
    """A console on ``stream`` that takes text as it is: names of layers hold brackets, colons and numbers."""
    plain = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not plain.is_terminal:
        plain.width = _PIPE_WIDTH
    return plain


def _print(target: Console, part: RenderableType) -> None:
    """Print one part; on a pipe without the spaces that pad tables to a rectangle."""
    if target.is_terminal:
        target.print(part)
        return
    with target.capture() as lines:
        target.print(part)
    target.file.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))


def _json_values(value: object) -> object:
    """``value`` with what JSON cannot hold replaced: no number is infinite or NaN there."""
    if isinstance(value, Mapping):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
