"""The files that a model needs wherever it runs: the model, its external data, the operator library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
import onnxruntime

from qcompiler import runtime_ops
from qcompiler.deploy.signature import Signature, signature_of
from qcompiler.errors import ModelFileError, RuntimeLibraryError
from qcompiler.ir.loading import load_model
from qcompiler.ir.saving import DOMAIN

MODEL_FILE = "model.onnx"
LIBRARY_FILE = "libqcompiler_ops.so"


@dataclass(frozen=True)
class ModelPackage:
    """A model and everything that must travel with it.

    Attributes:
        model: The model's file.
        data: Files of external data by the path that the model gives them, relative to its own folder.
        library: The operator library; None where the model does not need it, or shall do without.
        signature: What the model reads and writes.
    """

    model: Path
    data: Mapping[str, Path]
    library: Path | None
    signature: Signature

    def beside_model(self) -> dict[str, Path]:
        """The model and its data, by their paths in the folder that they are served from."""
        return {MODEL_FILE: self.model, **self.data}


def collect(path: Path, without_library: bool) -> ModelPackage:
    """Read a model and find what belongs to it.

    Raises:
        ModelFileError: No such file, not ONNX, or external data is missing or lies outside the model's folder.
        RuntimeLibraryError: The model needs the operator library, and it is not installed or cannot be used.
        UnsupportedModelError: An input or output that servers cannot offer.
    """
    model = load_model(path)
    wanted = not without_library and any(node.domain == DOMAIN for node in model.graph.node)
    try:
        library = runtime_ops.library_path() if wanted else None
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(f"{error}; or deploy with --without-library (portable, but slow)") from error
    # Reading weights in makes a model forget where they came from.
    light = onnx.load(path, load_external_data=False)
    locations = sorted(set(_locations(light)))
    outside = [name for name in locations if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise ModelFileError(f"'{path}' keeps weights outside its own folder ('{outside[0]}'); save it again")
    if MODEL_FILE in locations:
        raise ModelFileError(f"'{path}' keeps weights in a file called {MODEL_FILE}; save it again under another name")
    return ModelPackage(path, {name: path.parent / name for name in locations}, library, signature_of(light.graph))


def check_opens(model: Path, library: Path | None) -> None:
    """Open the files as a server will, and close them again.

    Raises:
        ModelFileError: ONNX Runtime cannot load them.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        if library is not None:
            options.register_custom_ops_library(str(library))
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ModelFileError(f"ONNX Runtime cannot load the model: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        state = hashlib.sha256()
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _locations(model: onnx.ModelProto) -> Iterator[str]:
    """Paths of external data, as the model writes them."""
    attributes = (item.t for node in model.graph.node for item in node.attribute if item.HasField("t"))
    for tensor in (*model.graph.initializer, *attributes):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield from (entry.value for entry in tensor.external_data if entry.key == "location")
