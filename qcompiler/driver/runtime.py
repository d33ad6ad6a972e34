"""Sessions of quantized models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from qcompiler import runtime_ops
from qcompiler.errors import RuntimeLibraryError, VerificationError
from qcompiler.ir.weight_files import ROOT, in_files


def quantized_session(model: onnx.ModelProto | Path, threads: int) -> Any:
    """A session with the operator library where it is installed.

    Raises:
        RuntimeLibraryError: The library cannot be used.
        VerificationError: ONNX Runtime refuses the model.
    """
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        external = ROOT if not isinstance(model, Path) and in_files(model) else None
        return runtime_ops.session(source, threads=threads or None, external_data=external)
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise VerificationError(
            f"ONNX Runtime cannot load the quantized model ({str(error).splitlines()[0]}): please report this model; "
            "nothing was written"
        ) from error
