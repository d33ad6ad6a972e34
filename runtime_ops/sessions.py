"""ONNX Runtime sessions for quantized models."""

from __future__ import annotations

from os import PathLike, fspath

import onnxruntime

from .library import LibraryNotFoundError, library_path


def session(
    model: str | PathLike[str] | bytes,
    *,
    threads: int | None = None,
    library: bool | None = None,
    optimize: bool = True,
) -> onnxruntime.InferenceSession:
    """An inference session on the CPU, with the operator library registered.

    Args:
        model: A file, or a serialized model.
        threads: Threads of the session; `None` leaves the number to ONNX Runtime (one per physical core).
        library: `True`: with the operator library; `False`: without it, on the operators' bodies; `None`: with it
            where it is installed.
        optimize: `False` turns ONNX Runtime's graph optimisations off.

    Returns:
        The session; its threads sleep between runs instead of spinning.

    Raises:
        LibraryError: `library` is true and there is none, or the library that is there cannot be used.
    """
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
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library is not False:
        try:
            options.register_custom_ops_library(str(library_path()))
        except LibraryNotFoundError:
            if library:
                raise
    source = model if isinstance(model, bytes) else fspath(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
