"""From the words of the command line to an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from qcompiler.cli import analyze, bench, compile_timm, deploy, evaluate, export, inspect, verify
from qcompiler.cli import compile as compile_command
from qcompiler.cli.terminal import Terminal
from qcompiler.errors import QcompilerError

USER_ERROR = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143

COMMANDS = {
    "analyze": analyze,
    "inspect": inspect,
    "eval": evaluate,
    "bench": bench,
    "export": export,
    "compile-timm": compile_timm,
    "deploy": deploy,
    "verify": verify,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: The command line without the program's name; None for the process's own.

    Returns:
        The exit code: 0, 1 when a check of ``verify`` failed, 2 for what the user can fix, 130 after an interrupt, 141
        when the reader of stdout went away, 143 when the process was told to end.
    """
    words = list(sys.argv[1:] if words is None else words)
    command = COMMANDS.get(words[0]) if words else None
    try:
        with _cleaning_up():
            parser = (command or compile_command).build_parser()
            arguments = parser.parse_args(words[1:] if command else words)
            code: int | None = (command or compile_command).run(arguments, Terminal.from_flags(arguments))
            sys.stdout.flush()
    except _Terminated:
        return _fail("terminated", TERMINATED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # What is still buffered would fail again when the interpreter closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        return _fail(f"error: {message}", USER_ERROR)
    return code or 0


class _Terminated(KeyboardInterrupt):
    """The process was told to end: what is half written is removed as after an interrupt."""


@contextmanager
def _cleaning_up() -> Iterator[None]:
    """Let SIGTERM raise where it would end the process at once, with half a file and workers left behind."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # the first one is enough, and cleaning up must not be cut short
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread: whoever runs the command there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _user_message(error: Exception) -> str | None:
    """The one line for a failure that the user can fix; None for a defect of qcompile, which deserves its traceback."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "out of memory; use fewer images or a machine with more"
    return str(error) if isinstance(error, QcompilerError) else None


def _fail(message: str, code: int) -> int:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    print(f"qcompile: {line}", file=sys.stderr)
    return code
