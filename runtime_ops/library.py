"""Where the operator library is, and what it says about itself."""

from __future__ import annotations

import ctypes
import functools
import os
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

_FILE_NAME = "libqcompiler_ops.so"
_DISTRIBUTION = "qcompile"
_BUILT, _DETECTED, _ACTIVE = 1, 2, 4  # flags of qcompiler_cpu_path


class LibraryError(ImportError):
    """The operator library cannot be used; the message is one line that says why and what to do."""


class LibraryNotFoundError(LibraryError):
    """There is no operator library: the package was installed without a compiler."""


class LibraryVersionError(LibraryError):
    """The operator library was built for another version of the package, of the operators, or of ONNX Runtime."""


class CpuPath(NamedTuple):
    """One implementation of the operators.

    Attributes:
        name: What `QCOMPILER_CPU_PATH` and `select_cpu_path` call it.
        built: Compiled into this library.
        detected: This processor and operating system can run it.
        active: The one that new sessions use.
    """

    name: str
    built: bool
    detected: bool
    active: bool


def library_path() -> Path:
    """The operator library's file, after a check that it loads and has the package's version.

    Returns:
        An absolute path, as ``SessionOptions.register_custom_ops_library`` takes it (converted to a string).

    Raises:
        LibraryNotFoundError: No library is installed, or `QCOMPILER_LIBRARY` names no file.
        LibraryVersionError: The library belongs to another version of qcompile.
        LibraryError: The file cannot be loaded.
    """
    path = _locate()
    _load(path)
    return path


def library_version() -> str:
    """The version of qcompile that the library was built with; raises as `library_path` does."""
    return _version(_load(_locate()))


def operator_versions() -> tuple[int, int]:
    """The oldest and the newest version of the operators that the library knows; raises as `library_path` does."""
    oldest, newest = ctypes.c_int64(), ctypes.c_int64()
    _load(_locate()).qcompiler_operator_versions(ctypes.byref(oldest), ctypes.byref(newest))
    return oldest.value, newest.value


def check_operator_version(version: int) -> None:
    """Refuse a model that uses operators of a version that the library does not know.

    Args:
        version: The version of the domain `qcompiler` that the model imports.

    Raises:
        LibraryVersionError: The library is too old or too new for the model.
        LibraryError: As `library_path`.
    """
    oldest, newest = operator_versions()
    if oldest <= version <= newest:
        return
    known = f"version {newest}" if oldest == newest else f"versions {oldest} to {newest}"
    remedy = "a newer qcompile" if version > newest else "the older qcompile that wrote the model"
    raise LibraryVersionError(
        f"the model uses version {version} of the qcompiler operators, and the operator library of qcompile "
        f"{library_version()} knows {known}; install {remedy}, or run the model without the library"
    )


def cpu_paths() -> list[CpuPath]:
    """The library's CPU paths, slowest first; raises as `library_path` does."""
    library = _load(_locate())
    paths = []
    for index in range(library.qcompiler_cpu_path_count()):
        flags = ctypes.c_int()
        name = library.qcompiler_cpu_path(index, ctypes.byref(flags))
        paths.append(
            CpuPath(
                name.decode(), bool(flags.value & _BUILT), bool(flags.value & _DETECTED), bool(flags.value & _ACTIVE)
            )
        )
    return paths


def select_cpu_path(name: str | None) -> None:
    """Makes sessions that are created from now on use one CPU path; `None` is the automatic choice.

    Args:
        name: A path that `cpu_paths` lists as built and detected.

    Raises:
        ValueError: The path does not exist or cannot run here.
    """
    wrong = _load(_locate()).qcompiler_select_cpu_path(None if name is None else name.encode())
    if wrong:
        raise ValueError(wrong.decode())


def packed_bytes() -> int:
    """Bytes of packed weights that the sessions of this process hold; sessions of one model count once.

    Returns:
        The bytes; 0 when the last session is gone. The weights in the model itself, which ONNX Runtime holds, are not
        among them. Raises as `library_path` does.
    """
    count = _load(_locate()).qcompiler_packed_bytes
    count.restype = ctypes.c_size_t
    return int(count())


def _locate() -> Path:
    explicit = os.environ.get("QCOMPILER_LIBRARY")
    path = Path(explicit).absolute() if explicit else Path(__file__).resolve().with_name(_FILE_NAME)
    if path.is_file():
        return path
    if explicit:
        raise LibraryNotFoundError(f"QCOMPILER_LIBRARY names {path}, which is not a file; correct or unset it")
    raise LibraryNotFoundError(
        "qcompile was installed without its operator library (no C++ compiler or no ONNX Runtime headers at the time); "
        "install g++ and run: pip install --force-reinstall --no-deps --no-cache-dir qcompile"
    )


@functools.cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        library.qcompiler_version.restype = ctypes.c_char_p
        library.qcompiler_cpu_path.restype = ctypes.c_char_p
        library.qcompiler_cpu_path.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
        library.qcompiler_select_cpu_path.restype = ctypes.c_char_p
        library.qcompiler_select_cpu_path.argtypes = [ctypes.c_char_p]
    except (OSError, AttributeError) as error:
        raise LibraryError(f"{path} is not a usable operator library: {error}") from error
    built, installed = _version(library), metadata.version(_DISTRIBUTION)
    if built != installed:
        raise LibraryVersionError(
            f"{path} was built for qcompile {built}, but {installed} is installed; reinstall qcompile"
        )
    return library


def _version(library: ctypes.CDLL) -> str:
    version: bytes = library.qcompiler_version()
    return version.decode()
