"""Which version of the operators a model was written for, read without its weights.

`onnx.load` would read the whole graph, which a session reads again; the versions lie outside of the graph.
"""

from __future__ import annotations

import os
from io import BytesIO
from os import PathLike
from typing import BinaryIO

_DOMAIN = b"qcompiler"
_OPSET_IMPORT = 8  # field of ModelProto, a message of domain (1) and version (2)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def operator_version(model: str | PathLike[str] | bytes) -> int | None:
    """The version of the domain `qcompiler` that a model imports.

    Args:
        model: A file, or a serialized model.

    Returns:
        The version; None if the model has no such operators or is no model, which ONNX Runtime says better.
    """
    try:
        if isinstance(model, bytes):
            return _version(BytesIO(model), len(model))
        with open(model, "rb") as file:
            return _version(file, os.fstat(file.fileno()).st_size)
    except (OSError, ValueError):
        return None


def _version(file: BinaryIO, end: int) -> int | None:
    found = None
    while file.tell() < end:
        field, content = _field(file, end, wanted=_OPSET_IMPORT)
        if field == _OPSET_IMPORT and isinstance(content, bytes):
            entry = BytesIO(content)
            values: dict[int, int | bytes | None] = {}
            while entry.tell() < len(content):
                key, value = _field(entry, len(content))
                values[key] = value
            version = values.get(2, 0)
            if values.get(1) == _DOMAIN and isinstance(version, int):
                found = version - (version >> 63 << 64)  # the sign of an int64
    return found


def _field(file: BinaryIO, end: int, wanted: int | None = None) -> tuple[int, int | bytes | None]:
    """Number and content of one field; content that is not wanted is skipped."""
    tag = _varint(file)
    number, wire = tag >> 3, tag & 7
    if wire == _VARINT:
        return number, _varint(file)
    size = _varint(file) if wire == _BYTES else {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
    if not 0 <= size <= end - file.tell():
        raise ValueError("not a protocol buffer")
    if wire == _BYTES and wanted in (None, number):
        return number, file.read(size)
    file.seek(size, os.SEEK_CUR)
    return number, None


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value & 2**64 - 1
    raise ValueError("not a protocol buffer")
