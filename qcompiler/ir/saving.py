"""Writing a graph to a model file: pinned versions, equal bytes for equal graphs, and never half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_graphsurgeon as gs

from qcompiler.errors import OutputPathError
from qcompiler.ir.verifier import OPSET
from qcompiler.ir.weight_files import WeightFiles, in_files, is_external, raw_bytes, tensor_bytes, to_files

IR_VERSION = 10
DOMAIN = "qcompiler"
DOMAIN_VERSION = 1

# Protocol buffers end at 2 GiB; the rest of the model needs room too.
_LARGEST_FILE = 2**31 - 2**24
# Of the weights in a file of their own: pages, so that they can be mapped.
_ALIGNMENT = 4096
_SMALLEST_EXTERNAL = 1024


def to_model(graph: gs.Graph, opset: int = OPSET, files: WeightFiles | None = None) -> onnx.ModelProto:
    """Exports a graph with the versions this project writes.

    Args:
        graph: the graph, sorted; it is not changed, but that large weights go to `files`.
        opset: version of the standard domain; that of the graph where it is not yet canonical.
        files: takes the weights where they are large; None keeps them in memory.

    Returns:
        The model, of IR version 10, with the domain `qcompiler` where the graph uses it.
    """
    if files is not None:
        to_files(graph, files)
    imports = [onnx.helper.make_opsetid("", opset)]
    if any(node.domain == DOMAIN for node in graph.nodes) or any(item.domain == DOMAIN for item in graph.functions):
        imports.append(onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    model = gs.export_onnx(graph, opset_imports=imports)
    model.ir_version = IR_VERSION
    model.producer_name = "qcompile"
    model.ClearField("producer_version")
    return model


def save_model(model: onnx.ModelProto, path: str | Path, external_above: int = _LARGEST_FILE) -> list[Path]:
    """Writes a model; the file appears complete or not at all.

    Args:
        model: the model; it is not changed.
        path: where to write. Its folder exists.
        external_above: a model of more bytes keeps its weights in `<file name>.data` beside the file.

    Returns:
        The files written, the model first.

    Raises:
        OutputPathError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputPathError(f"the folder of '{path}' does not exist; create it or choose another output path")
    if path.is_dir():
        raise OutputPathError(f"'{path}' is a folder; pass the path of the .onnx file to write")
    try:
        if sum(map(tensor_bytes, model.graph.initializer)) <= external_above:
            _write(path, _whole(model).SerializeToString(deterministic=True))
            return [path]
        data = path.with_name(path.name + ".data")
        _write_external(model, path, data)
        return [path, data]
    except OSError as error:
        raise OutputPathError(f"'{path}' cannot be written: {error.strerror or error}") from error


def _whole(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all weights inside."""
    if not in_files(model):
        return model
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for tensor in whole.graph.initializer:
        if is_external(tensor):
            content = bytes(raw_bytes(tensor))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = content
    return whole


def _write_external(model: onnx.ModelProto, path: Path, data: Path) -> None:
    """Writes the weights one after the other to a file of their own, and the model without them.

    Both files are complete before the first takes its place: what an interrupted run leaves belongs together.
    """
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=f".{path.name}.") as folder:
        light = onnx.ModelProto()
        light.CopyFrom(model)
        with (Path(folder) / data.name).open("wb") as file:
            for tensor in light.graph.initializer:
                tensor.CopyFrom(_moved(tensor, file, data.name))
            file.flush()
            os.fsync(file.fileno())
        written = Path(folder) / path.name
        _write(written, light.SerializeToString(deterministic=True))
        os.chmod(Path(folder) / data.name, 0o666 & ~_umask())
        os.replace(Path(folder) / data.name, data)
        os.replace(written, path)


def _moved(tensor: onnx.TensorProto, file: BinaryIO, location: str) -> onnx.TensorProto:
    """A tensor with its values appended to a file; a small one as it is."""
    content = raw_bytes(tensor) if is_external(tensor) or tensor.HasField("raw_data") else b""
    if len(content) < _SMALLEST_EXTERNAL:
        return tensor
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    moved = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    moved.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", file.tell()), ("length", len(content))):
        moved.external_data.add(key=key, value=str(value))
    file.write(content)
    return moved


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
