"""The operator library `libqcompiler_ops` and the few lines of Python that find, load and inspect it.

A quantized model runs anywhere without the library (its operators carry bodies of standard operators) and fast with it:

    from qcompiler import runtime_ops
    outputs = runtime_ops.session("model.onnx").run(None, {"images": images})

Any other program registers the file that `library_path` names with ``SessionOptions.register_custom_ops_library``.

Environment:
    QCOMPILER_LIBRARY: Path of the library to use instead of the installed one.
    QCOMPILER_CPU_PATH: Name of the only CPU path to use (see `cpu_paths`), for tests and comparisons.
"""

if __name__ != "qcompiler.runtime_ops":
    raise ImportError(
        "import qcompiler.runtime_ops: the folder runtime_ops of the checkout is not a package of its own"
    )

from .library import (
    CpuPath,
    LibraryError,
    LibraryNotFoundError,
    LibraryVersionError,
    cpu_paths,
    library_path,
    library_version,
    operator_versions,
    select_cpu_path,
)
from .sessions import session

__all__ = [
    "CpuPath",
    "LibraryError",
    "LibraryNotFoundError",
    "LibraryVersionError",
    "cpu_paths",
    "library_path",
    "library_version",
    "operator_versions",
    "select_cpu_path",
    "session",
]
