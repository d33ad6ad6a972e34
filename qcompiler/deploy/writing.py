"""Folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from qcompiler.deploy.layout import Content
from qcompiler.errors import OutputPathError


def write_tree(
    target: Path, files: Mapping[PurePosixPath, Content], whole: PurePosixPath, check: Callable[[Path], None]
) -> None:
    """Write files below a folder, all or none of them.

    They are written and checked in a temporary folder of the same file system and then renamed: each of the folders
    above `whole` that exists is entered, what does not exist yet is moved as one piece.

    Args:
        target: The folder; it need not exist, the one above it must.
        files: Text or files to copy, by their paths relative to `target`. Those that exist already are left alone,
            except in `whole`.
        whole: A relative folder that must not exist yet; it appears complete, and after everything outside it.
        check: Looks at the temporary folder, laid out like `target`, before anything is moved.

    Raises:
        OutputPathError: A folder cannot be written, or `whole` exists.
        Exception: What `check` raised; nothing is written then.
    """
    if not target.parent.is_dir():
        raise OutputPathError(f"the folder of '{target}' does not exist; create it or choose another --repository")
    if target.exists() and not target.is_dir():
        raise OutputPathError(f"'{target}' is a file; pass a folder with --repository")
    moved: list[Path] = []
    with _scratch(target if target.is_dir() else target.parent, target.name) as scratch:
        staged = scratch / "staged"
        try:
            for name, content in files.items():
                _write(staged / name, content)
        except OSError as error:
            raise OutputPathError(f"'{target}' cannot be written: {error.strerror or error}") from error
        check(staged)
        try:
            _move(staged, target, target / whole, moved)
        except BaseException as error:
            for path in reversed(moved):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if isinstance(error, OSError):
                raise OutputPathError(
                    f"'{target / whole}' cannot be written ({error.strerror or error}); if another process deployed at "
                    "the same time, run the command again"
                ) from error
            raise


@contextmanager
def _scratch(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder, removed at the end; servers skip it when they look for models."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    except OSError as error:
        raise OutputPathError(f"'{parent}' cannot be written: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_text(content, "utf-8")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _move(source: Path, target: Path, whole: Path, moved: list[Path]) -> None:
    """Rename `source` to `target`, or its parts where `target` is a folder above `whole`."""
    if target != whole and target.is_dir() and target in whole.parents:
        # Folders last: what they need lies beside them when they appear.
        for part in sorted(source.iterdir(), key=lambda path: (path.is_dir(), path.name)):
            _move(part, target / part.name, whole, moved)
    elif target == whole or not target.exists():
        os.rename(source, target)  # fails where a folder with contents is in the way
        moved.append(target)
