"""Inspection of a model file."""

from __future__ import annotations

from pathlib import Path

import onnx

from qcompiler.errors import ModelFileError, QcompilerError
from qcompiler.ir.loading import load_model
from qcompiler.report.inspection import Inspection, inspect_model


def inspect_file(path: Path) -> tuple[Inspection, int]:
    """Read a model file.

    Returns:
        What it is, and its bytes, external data included.

    Raises:
        ModelFileError: No such file, not ONNX, or quantized layers that make no sense.
    """
    model = load_model(path)
    # Reading weights in makes a model forget where they came from.
    graph = onnx.load(path, load_external_data=False).graph
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    external = {entry.value for entry in entries if entry.key == "location"}
    size = sum(file.stat().st_size for file in (path, *(path.parent / name for name in external)))
    try:
        return inspect_model(model), size
    except QcompilerError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"the layers of '{path}' cannot be read ({type(error).__name__}: {error}): the file is damaged; compile "
            "the model again"
        ) from error
