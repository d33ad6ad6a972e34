"""The files of a command: what must exist, and what must not be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from qcompiler.errors import ModelFileError, OutputPathError


def existing_model(path: Path) -> Path:
    """``path``, if there is such a file.

    Raises:
        ModelFileError: There is none.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise ModelFileError(f"model file '{path}' {problem}; pass the path of an .onnx file")
    return path


def default_output(model: Path, method: str) -> Path:
    """``vit.onnx`` compiled with ``igq`` becomes ``vit.igq.onnx`` beside it."""
    return model.with_name(f"{model.stem}.{method}.onnx")


def given(*values: str | Path | None) -> list[Path]:
    """Those files that were named at all."""
    return [Path(value) for value in values if value is not None]


def check_output(output: Path, option: str, inputs: Iterable[Path]) -> None:
    """Refuse an output before any work is done for it.

    Args:
        output: The file that will be written.
        option: The option that names it, for the message.
        inputs: Files that the command reads; those that do not exist are no concern of this check.

    Raises:
        OutputPathError: It is one of the inputs, a folder, or lies where no file can be written.
    """
    for path in inputs:
        if _same(output, path):
            raise OutputPathError(f"{option} '{output}' is a file that is read ('{path}'); choose another path")
    if output.is_dir():
        raise OutputPathError(f"{option} '{output}' is a folder; pass the path of the file to write")
    folder = output.parent
    if not folder.is_dir():
        raise OutputPathError(f"the folder of {option} '{output}' does not exist; create it or choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputPathError(f"{option} '{output}': its folder cannot be written; choose another path with {option}")


def _same(left: Path, right: Path) -> bool:
    if left.exists() and right.exists():
        return left.samefile(right)  # also through links
    return left.resolve() == right.resolve()
