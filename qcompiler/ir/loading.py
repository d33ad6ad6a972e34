"""Reading a model file, with one clear error for everything that can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from qcompiler.errors import ModelFileError, NonFiniteError
from qcompiler.ir.external_data import is_large, map_external, move_to_files
from qcompiler.ir.validation import check_operators, check_outputs, check_parameters, weight_values
from qcompiler.ir.weight_files import WeightFiles, declared, in_files, is_external, tensor_array

_FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}


def load_model(source: str | Path | onnx.ModelProto, files: WeightFiles | None = None) -> onnx.ModelProto:
    """Reads and checks a model.

    Args:
        source: path of an ONNX file (external data beside it is read too), or a model in memory, which is not changed.
        files: lets the weights of a large model stay in files, and takes those that do not lie in files yet; None
            reads all weights into memory.

    Returns:
        The model, weights included or, where it is large, in files (:mod:`qcompiler.ir.weight_files`).

    Raises:
        ModelFileError: no such file, not an ONNX file, missing external data, a weight without values, or the ONNX
            checker refuses it.
        UnsupportedModelError: an output is not computed by a node.
        NonFiniteError: a weight holds NaN or infinity; the message names it.
    """
    if isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
        if files is not None:
            move_to_files(model, files)
        _check(model, "the model")
    else:
        model = _read(Path(source), files)
        if files is not None:
            move_to_files(model, files)
    check_outputs(model)
    check_parameters(model)
    check_finite(model)
    return model


def check_finite(model: onnx.ModelProto) -> None:
    """Raises NonFiniteError when an initialiser or a constant holds NaN or infinity."""
    for tensor in _tensors(model):
        if tensor.data_type in _FLOATS:
            values = tensor_array(tensor) if is_external(tensor) else weight_values(tensor)
            finite = np.isfinite(values.astype(np.float32) if values.dtype.itemsize < 4 else values)
            if not finite.all():
                count = int(finite.size - finite.sum())
                raise NonFiniteError(
                    f"weight '{tensor.name}' holds {count} values that are NaN or infinite; "
                    "check the training or the export of the model"
                )


def _read(path: Path, files: WeightFiles | None) -> onnx.ModelProto:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelFileError(f"model file '{path}' {what}; pass the path of an .onnx file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ModelFileError(f"'{path}' is not an ONNX file ({_first_line(error)})") from error
    if not model.HasField("graph") or not model.graph.output:
        raise ModelFileError(f"'{path}' is not an ONNX model: it holds no graph with outputs")
    try:
        large = files is not None and is_large(model, files)
        if large:
            _check(model, f"'{path}'", path)  # it also refuses data that does not lie beside the model
            map_external(model, path)
        else:
            onnx.load_external_data_for_model(model, str(path.parent))
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"the external data of '{path}' cannot be read; keep it beside the model ({_first_line(error)})"
        ) from error
    if not large:
        _check(model, f"'{path}'", path)
    return model


def _check(model: onnx.ModelProto, what: str, path: Path | None = None) -> None:
    if not model.opset_import:
        raise ModelFileError(f"{what} names no opset; export it again")
    check_operators(model)
    try:
        # The checker cannot take a model above 2 GB from memory.
        size = sum(tensor.ByteSize() for tensor in model.graph.initializer)
        large = path is not None and (size > 2**31 - 2**20 or in_files(model))
        onnx.checker.check_model(str(path) if large else declared(model))
    except Exception as error:
        raise ModelFileError(f"the ONNX checker refuses {what}: {_first_line(error)}") from error


def _tensors(model: onnx.ModelProto) -> Iterable[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    tensor = onnx.TensorProto()
                    tensor.CopyFrom(attribute.t)
                    tensor.name = node.output[0]
                    yield tensor


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
