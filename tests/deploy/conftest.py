"""The shipped model, compiled once, and small models whose inputs and outputs a test chooses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import qcompiler.models
from qcompiler import runtime_ops
from qcompiler.cli import main

SHIPPED = Path(qcompiler.models.__file__).parent


@pytest.fixture(scope="session")
def float_digits() -> Path:
    """The shipped float model."""
    return SHIPPED / "digits_vit.onnx"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model compiled at fixed widths, which takes seconds."""
    try:
        runtime_ops.library_path()
    except runtime_ops.LibraryNotFoundError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("digits")
    for name in ("digits_vit.onnx", "digits_vit.calib.npz"):
        shutil.copy(SHIPPED / name, folder)
    output = folder / "digits.onnx"
    words = ["--bits", "w4a8", "--effort", "low", "--images", "8", "--threads", "1", "--quiet", "-o", output]
    assert main([str(word) for word in (folder / "digits_vit.onnx", *words)]) == 0
    return output


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Held-out images of the shipped model, [64, 1, 24, 24] float32."""
    with np.load(SHIPPED / "digits_vit.eval.npz") as data:
        return data["input"][:64]
