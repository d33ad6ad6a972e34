"""Everything that a command writes, at its end and all together: a command that fails leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qcompiler.errors import OutputPathError

Write = Callable[[Path], Iterable[Path] | None]


def check_places(paths: Iterable[Path | None]) -> None:
    """Refuse a path without a place before any work is done for it; None stands for a file that is not asked for.

    Raises:
        OutputPathError: The folder does not exist, or the path is a folder.
    """
    for path in paths:
        if path is None:
            continue
        if not path.parent.is_dir():
            raise OutputPathError(f"the folder of '{path}' does not exist; create it or choose another output path")
        if path.is_dir():
            raise OutputPathError(f"'{path}' is a folder; pass the path of the file to write")


def write_all(writes: Sequence[tuple[Path | None, Write]]) -> None:
    """Write files one after the other; where one fails, those before it are removed.

    Args:
        writes: Path and function of each file; a function returns the files that it wrote if these are not just the
            path. Those without a path are left out.

    Raises:
        Exception: What a function raised.
    """
    written: list[Path] = []
    try:
        for path, write in writes:
            if path is not None:
                written += write(path) or [path]
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
