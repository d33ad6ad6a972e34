"""Where the tests find what an example is built with: headers, compiler, the installed shared library."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
_HEADER = "onnxruntime_cxx_api.h"


def _include_folders() -> Iterator[Path]:
    """The places that setup.py looks in, and the folder that it unpacks headers into."""
    if explicit := os.environ.get("QCOMPILER_ORT_INCLUDE"):
        yield Path(explicit)
    if home := os.environ.get("ORT_HOME"):
        yield Path(home) / "include"
    yield CHECKOUT / "build" / "native" / "onnxruntime-headers"
    yield Path("/usr/include/onnxruntime")


@pytest.fixture(scope="session")
def headers() -> Path:
    """The folder of ONNX Runtime's C++ headers."""
    layouts = ("", "onnxruntime", "onnxruntime/core/session", "core/session")
    for folder in _include_folders():
        for layout in layouts:
            if (folder / layout / _HEADER).is_file():
                return folder / layout
    pytest.skip(f"{_HEADER} was not found; set QCOMPILER_ORT_INCLUDE")


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """The C++ compiler as a command."""
    command = shlex.split(os.environ.get("CXX", "")) or [name for name in ("c++", "g++") if shutil.which(name)][:1]
    if not command:
        pytest.skip("no C++ compiler was found")
    return command


@pytest.fixture(scope="session")
def ort_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package's shared library under the names that a linker and a loader ask for."""
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("this onnxruntime package has no libonnxruntime.so")
    folder = tmp_path_factory.mktemp("onnxruntime")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found[-1])
    return folder
