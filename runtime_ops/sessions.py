"""ONNX Runtime sessions for quantized models."""

from __future__ import annotations

from os import PathLike, fspath

import onnxruntime

from .library import LibraryNotFoundError, LibraryVersionError, check_operator_version, library_path
from .model_header import operator_version

OLDEST_RUNTIME = (1, 23)  # the first that casts int4, which the operators' bodies do


def session(
    model: str | PathLike[str] | bytes,
    *,
    threads: int | None = None,
    library: bool | None = None,
    optimize: bool = True,
    external_data: str | PathLike[str] | None = None,
) -> onnxruntime.InferenceSession:
    """An inference session on the CPU, with the operator library registered.

    Args:
        model: A file, or a serialized model.
        threads: Threads of the session; `None` leaves the number to ONNX Runtime (one per physical core).
        library: `True`: with the operator library; `False`: without it, on the operators' bodies; `None`: with it
            where it is installed.
        optimize: `False` turns ONNX Runtime's graph optimisations off.
        external_data: Folder of the external data of a serialized model.

    Returns:
        The session; its threads sleep between runs instead of spinning.

    Raises:
        LibraryError: `library` is true and there is none, or the library that is there cannot be used.
        LibraryVersionError: ONNX Runtime, or the library, is too old or too new for the model.
    """
    _check_runtime()
    source = model if isinstance(model, bytes) else fspath(model)
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A pattern is reserved beside what the first run left in the arena: 50 MB of 300 for eight images in ViT-Base.
    options.enable_mem_pattern = False
    # The readable quantized graph: ONNX Runtime would fuse int4 weights with their product and round its inputs again.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    options.log_severity_level = 3  # errors; a warning per unused initializer says nothing to a user
    if external_data is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", fspath(external_data))
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library is not False:
        try:
            options.register_custom_ops_library(str(library_path()))
        except LibraryNotFoundError:
            if library:
                raise
        else:
            version = operator_version(source)
            if version is not None:
                check_operator_version(version)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _check_runtime() -> None:
    release = onnxruntime.__version__
    if tuple(int(part) for part in release.split(".")[:2]) < OLDEST_RUNTIME:
        oldest = ".".join(map(str, OLDEST_RUNTIME))
        raise LibraryVersionError(
            f"onnxruntime {release} is installed, and quantized models need {oldest} or newer; "
            "run: pip install --upgrade onnxruntime"
        )
