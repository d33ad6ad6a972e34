"""Options that compile in a second, and the three ways to run a compiled model."""

import numpy as np
import onnxruntime as ort
import pytest

from qcompiler import runtime_ops
from qcompiler.options import CompileOptions

try:
    runtime_ops.library_path()
    LIBRARY = True
except runtime_ops.LibraryError:
    LIBRARY = False
needs_library = pytest.mark.skipif(not LIBRARY, reason="the operator library is not built")


def fast(**options):
    """Few images, two group counts, no limit on the bookkeeping: it is most of so small a model."""
    small = {"images": 16, "probe_images": 2, "trial_images": 4, "threads": 1}
    small |= {"group_candidates": (1, 4), "overhead_budget": 10.0}
    return CompileOptions(**{**small, **options})


def plain(model, feed):
    """Plain ONNX Runtime: the bodies of the operators, without the library.

    ONNX Runtime would turn a product with a dequantized weight into one that also rounds its input to 8 bits
    (accuracy level 4 of MatMulNBits); level 1 keeps float32.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


def native(model, feed):
    """With the operator library."""
    return runtime_ops.session(model.SerializeToString(), threads=1).run(None, feed)[0]


def relative(found, expected):
    """Norm of the difference over the norm of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
