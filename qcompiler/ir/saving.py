"""Writing a graph to a model file: pinned versions, equal bytes for equal graphs, and never half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from qcompiler.errors import OutputPathError
from qcompiler.ir.verifier import OPSET

IR_VERSION = 10
DOMAIN = "qcompiler"
DOMAIN_VERSION = 1

# Protocol buffers end at 2 GiB; the rest of the model needs room too.
_LARGEST_FILE = 2**31 - 2**24


def to_model(graph: gs.Graph, opset: int = OPSET) -> onnx.ModelProto:
    """Exports a graph with the versions this project writes.

    Args:
        graph: the graph, sorted; it is not changed.
        opset: version of the standard domain; that of the graph where it is not yet canonical.

    Returns:
        The model, of IR version 10, with the domain `qcompiler` where the graph uses it.
    """
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
        if sum(tensor.ByteSize() for tensor in model.graph.initializer) <= external_above:
            _write(path, model.SerializeToString(deterministic=True))
            return [path]
        data = path.with_name(path.name + ".data")
        light = onnx.ModelProto()
        light.CopyFrom(model)
        onnx.convert_model_to_external_data(light, location=data.name, size_threshold=1024)
        _write_external(light, path, data)
        return [path, data]
    except OSError as error:
        raise OutputPathError(f"'{path}' cannot be written: {error.strerror or error}") from error


def _write_external(model: onnx.ModelProto, path: Path, data: Path) -> None:
    """Writes the weights that are marked as external to one file and takes them out of the model, which follows.

    Both files are complete before the first takes its place: what an interrupted run leaves belongs together.
    """
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=f".{path.name}.") as folder:
        onnx.external_data_helper.write_external_data_tensors(model, folder)
        light = Path(folder) / path.name
        _write(light, model.SerializeToString(deterministic=True))
        os.replace(Path(folder) / data.name, data)
        os.replace(light, path)


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
