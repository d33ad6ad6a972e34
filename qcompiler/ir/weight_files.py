"""Weights that stay in files: a large model's initialisers are mapped where they are read, never held together.

In memory such a model is an ordinary `ModelProto` whose large initialisers are external. Their locations are relative
to the root of the file system (`ROOT`): weights of the user's files and of temporary ones can meet in one model, and
ONNX Runtime opens it with that root as the folder of external data.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import LazyValues

from qcompiler.errors import OutputPathError
from qcompiler.ir.temporary_folders import temporary_folder

ROOT = "/"
LARGE = 512 << 20  # bytes of weights from which they stay in files
SMALLEST = 4096  # bytes of a tensor that goes to a file: shapes and scalars stay where passes look for them


class WeightFiles:
    """A temporary folder of weights, made when the first one is written and removed with this object.

    Args:
        large: Bytes of weights above which a model's are kept in files; None for ``LARGE``.
    """

    def __init__(self, large: int | None = None) -> None:
        self.large = LARGE if large is None else large
        self._folder: TemporaryDirectory[str] | None = None
        self._written = 0

    def __enter__(self) -> WeightFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder; models whose weights lie there cannot be read any more."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def put(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """Write a tensor's values.

        Returns:
            The same tensor with its values in a file.

        Raises:
            OutputPathError: The folder for temporary files has no room.
        """
        return self._write(tensor.name, tensor.data_type, tuple(tensor.dims), raw_bytes(tensor))

    def put_array(self, name: str, values: NDArray[np.generic]) -> onnx.TensorProto:
        """Likewise for an array."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        return self._write(name, kind, values.shape, np.ascontiguousarray(values).data.cast("B"))

    def _write(self, name: str, kind: int, dims: tuple[int, ...], content: bytes | memoryview) -> onnx.TensorProto:
        try:
            if self._folder is None:
                self._folder = temporary_folder()
            path = Path(self._folder.name).resolve() / f"{self._written}.bin"
            path.write_bytes(content)
        except OSError as error:
            raise OutputPathError(
                f"cannot keep the weights of a large model in temporary files ({error.strerror or error}): "
                "set TMPDIR to a folder with room"
            ) from error
        self._written += 1
        return external(name, kind, dims, path, 0, len(content))


class MappedValues(LazyValues):
    """Values of a graph's constant that are mapped from a file when they are read."""

    def load(self) -> NDArray[np.generic]:
        """The values, which cannot be written to."""
        return tensor_array(self.tensor)


def external(name: str, kind: int, dims: Iterable[int], path: Path, offset: int, length: int) -> onnx.TensorProto:
    """A tensor whose values lie in a file.

    Args:
        name: Name of the tensor.
        kind: ONNX element type.
        dims: Shape.
        path: The file, absolute.
        offset: Bytes in front of the values.
        length: Bytes of the values.
    """
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=dims, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", os.path.relpath(path, ROOT)), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values lie in a file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def in_files(model: onnx.ModelProto) -> bool:
    """Whether weights of a model lie in files."""
    return any(is_external(tensor) for tensor in model.graph.initializer)


def declared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights in files as inputs, for what must not look for them; the same where none lies in files."""
    if not in_files(model):
        return model
    found = onnx.ModelProto()
    found.CopyFrom(model)
    given = {value.name for value in found.graph.input}
    for index in reversed(range(len(found.graph.initializer))):
        tensor = found.graph.initializer[index]
        if is_external(tensor):
            if tensor.name not in given:
                value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                found.graph.input.append(value)
            del found.graph.initializer[index]
    return found


def tensor_array(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    """The values of a tensor; those in a file are mapped and cannot be written to."""
    if not is_external(tensor):
        return onnx.numpy_helper.to_array(tensor)
    path, offset, length = _place(tensor)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = math.prod(tensor.dims)
    if count * kind.itemsize != length:  # packed elements (int4): ONNX knows how to spread them
        inline = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        inline.raw_data = bytes(raw_bytes(tensor))
        return onnx.numpy_helper.to_array(inline)
    if not count:
        return np.zeros(tuple(tensor.dims), kind)
    return np.memmap(path, kind, "r", offset, tuple(tensor.dims))


def raw_bytes(tensor: onnx.TensorProto) -> bytes | memoryview:
    """The values of a tensor as ONNX writes them; those in a file are mapped."""
    if is_external(tensor):
        path, offset, length = _place(tensor)
        return np.memmap(path, np.uint8, "r", offset, (length,)).data if length else b""
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor, wherever its values lie."""
    return tensor.ByteSize() + (_place(tensor)[2] if is_external(tensor) else 0)


def model_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a model with all of its weights."""
    return model.ByteSize() + sum(_place(tensor)[2] for tensor in model.graph.initializer if is_external(tensor))


def release(values: object) -> None:
    """Give back the memory of a mapped array: its values stay readable and are read from the file again."""
    while isinstance(values, np.ndarray):
        values = values.base
    if isinstance(values, mmap.mmap):
        values.madvise(mmap.MADV_DONTNEED)


def to_files(graph: gs.Graph, files: WeightFiles) -> None:
    """Move the constants of a graph to files where they are large together."""
    constants = [tensor for tensor in graph.tensors().values() if isinstance(tensor, gs.Constant)]
    if sum(_held(tensor) for tensor in constants) <= files.large:
        return
    for constant in constants:
        values = constant._values  # reading `values` would load what is still in a file
        if isinstance(values, MappedValues) or not _held(constant):
            continue
        if isinstance(values, LazyValues):
            stored = files.put(values.tensor)
        elif isinstance(values.base, mmap.mmap):  # read from a file and unchanged
            kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            stored = external(constant.name, kind, values.shape, Path(values.filename), values.offset, values.nbytes)
        else:
            stored = files.put_array(constant.name, values)
        constant.values = MappedValues(stored)


def _held(constant: gs.Constant) -> int:
    """Bytes of a constant that can be kept in a file, else 0."""
    values = constant._values
    if isinstance(values, LazyValues):
        size = len(raw_bytes(values.tensor)) if not is_external(values.tensor) else _place(values.tensor)[2]
    else:
        size = values.nbytes if isinstance(values, np.ndarray) and values.dtype.isbuiltin == 1 else 0
    return int(size) if size >= SMALLEST else 0


def _place(tensor: onnx.TensorProto) -> tuple[Path, int, int]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Path(ROOT) / entries["location"], int(entries["offset"]), int(entries["length"])
