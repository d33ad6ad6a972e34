"""External data of a model file: read into memory, or left where it is when the model is large."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from qcompiler.errors import ModelFileError
from qcompiler.ir.weight_files import SMALLEST, WeightFiles, external, is_external, tensor_bytes


def is_large(model: onnx.ModelProto, files: WeightFiles) -> bool:
    """Whether the external values of a model that was just read are kept in files.

    Raises:
        ValueError: a tensor tells no length and has no type that has one.
    """
    return sum(_length(tensor) for tensor in model.graph.initializer if is_external(tensor)) > files.large


def map_external(model: onnx.ModelProto, path: Path) -> None:
    """Names where the large initialisers of a model lie, and reads the other external values into memory.

    Args:
        model: the model, as it was read without its external data and accepted by ONNX's checker; changed in place.
        path: its file.

    Raises:
        ModelFileError: a file is shorter than its tensors.
    """
    mapped = []
    for tensor in model.graph.initializer:
        if is_external(tensor) and _length(tensor) >= SMALLEST:
            tensor.CopyFrom(_mapped(tensor, path))
            mapped.append(tensor)
    for tensor in mapped:  # ONNX reads whatever is marked as external
        tensor.data_location = onnx.TensorProto.DEFAULT
    onnx.load_external_data_for_model(model, str(path.parent))
    for tensor in mapped:
        tensor.data_location = onnx.TensorProto.EXTERNAL


def move_to_files(model: onnx.ModelProto, files: WeightFiles) -> None:
    """Moves the initialisers of a model that holds them in memory to files, in place, where they are large together."""
    held = [tensor for tensor in model.graph.initializer if not is_external(tensor)]
    if sum(map(tensor_bytes, held)) <= files.large:
        return
    for tensor in held:
        if tensor_bytes(tensor) >= SMALLEST:
            tensor.CopyFrom(files.put(tensor))


def _mapped(tensor: onnx.TensorProto, path: Path) -> onnx.TensorProto:
    entries = _entries(tensor)
    data = (path.parent / entries["location"]).resolve()
    offset, length, held = int(entries.get("offset", 0)), _length(tensor), data.stat().st_size
    if offset < 0 or offset + length > held:
        raise ModelFileError(
            f"the external data of '{path}' cannot be read: '{data.name}' has {held} bytes and tensor "
            f"'{tensor.name}' ends at {offset + length}; copy the file again"
        )
    return external(tensor.name, tensor.data_type, tensor.dims, data, offset, length)


def _length(tensor: onnx.TensorProto) -> int:
    entries = _entries(tensor)
    if "length" in entries:
        return int(entries["length"])
    return math.prod(tensor.dims) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}
