"""Stage one: from any float model to its canonical graph, checked against the original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from qcompiler.calibration.inputs import Feed, ModelInput
from qcompiler.errors import ModelFileError, VerificationError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import PassReport, run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.structure import Structure, find_structure
from qcompiler.ir.verifier import verify
from qcompiler.passes import CANONICALISE

# Both models compute in float32 with different roundings; a wrong rewrite is off by far more.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Canonical:
    """A canonical model: its graph (which QUANTIZE passes will edit), its ModelProto and what was found in it."""

    graph: gs.Graph
    model: onnx.ModelProto
    structure: Structure
    passes: tuple[PassReport, ...]


def canonicalise(model: onnx.ModelProto, verify_each: bool = False) -> Canonical:
    """Run the CANONICALISE passes.

    Raises:
        UnsupportedModelError: Nothing in it can be quantized.
        VerificationError: A pass broke its contract.
    """
    graph = to_graph(model)
    reports = run_passes(graph, [make() for make in CANONICALISE], verify_each=verify_each)
    verify(graph, "canonical")
    return Canonical(graph, to_model(graph), find_structure(graph), tuple(reports))


def model_inputs(model: onnx.ModelProto) -> tuple[ModelInput, ...]:
    """Inputs that a user feeds (initialisers that older exporters list among the inputs are left out)."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in tensor.shape.dim
        )
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        found.append(ModelInput(value.name, shape, dtype.name))
    return tuple(found)


def float_session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """A session of a float model.

    Raises:
        ModelFileError: ONNX Runtime refuses the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ModelFileError(f"ONNX Runtime cannot load the model: {str(error).splitlines()[0]}") from error


def check_equal(original: ort.InferenceSession, canonical: onnx.ModelProto, feed: Feed, threads: int) -> None:
    """Run both float models on one feed.

    Raises:
        VerificationError: The canonical model does not compute what the original does.
    """
    session = float_session(canonical, threads)
    names = [output.name for output in original.get_outputs()]
    for name, expected, found in zip(names, original.run(names, feed), session.run(names, feed), strict=True):
        error = float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))
        if not error <= TOLERANCE:
            raise VerificationError(
                f"output '{name}' of the canonical model differs from the original by {error:.2e} (relative): please "
                "report this model; nothing was written"
            )
