"""Inspection of a model file."""

from __future__ import annotations

from pathlib import Path

import onnx

from qcompiler.ir.loading import load_model
from qcompiler.report.inspection import Inspection, inspect_model


def inspect_file(path: Path) -> tuple[Inspection, int]:
    """Read a model file.

    Returns:
        What it is, and its bytes, external data included.

    Raises:
        ModelFileError: No such file, or not ONNX.
    """
    model = load_model(path)
    # Reading weights in makes a model forget where they came from.
    graph = onnx.load(path, load_external_data=False).graph
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    external = {entry.value for entry in entries if entry.key == "location"}
    size = sum(file.stat().st_size for file in (path, *(path.parent / name for name in external)))
    return inspect_model(model), size
