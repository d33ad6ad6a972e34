"""Stage one: from any float model to its canonical graph, checked against the original."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from qcompiler.calibration.float_session import FloatSession
from qcompiler.calibration.float_session import float_session as open_float_session
from qcompiler.calibration.inputs import Feed, ModelInput
from qcompiler.errors import ModelFileError, QcompilerError, UnsupportedModelError, VerificationError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import PassReport, run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.structure import Structure, find_structure
from qcompiler.ir.verifier import verify
from qcompiler.ir.weight_files import WeightFiles
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


def canonicalise(model: onnx.ModelProto, verify_each: bool = False, files: WeightFiles | None = None) -> Canonical:
    """Run the CANONICALISE passes.

    Args:
        model: The float model.
        verify_each: Check the graph after every pass.
        files: Takes weights that the passes change, where the model is large.

    Raises:
        UnsupportedModelError: Nothing in it can be quantized.
        VerificationError: A pass broke its contract.
    """
    graph = to_graph(model)
    reports = run_passes(graph, [make() for make in CANONICALISE], verify_each=verify_each)
    verify(graph, "canonical")
    return Canonical(graph, to_model(graph, files=files), find_structure(graph), tuple(reports))


@contextmanager
def blamed_on(model: onnx.ModelProto, threads: int) -> Iterator[None]:
    """What goes wrong inside is the model's fault where ONNX Runtime refuses it, too.

    The passes rely on a consistent model; to check that with a session costs more than a good model should pay.

    Raises:
        ModelFileError: ONNX Runtime refuses the model.
        UnsupportedModelError: It does not.
    """
    try:
        yield
    except (QcompilerError, MemoryError):
        raise
    except Exception as error:
        float_session(model, threads)
        raise UnsupportedModelError(
            f"the graph cannot be analysed ({type(error).__name__}: {_first_line(error)}); check that the model runs, "
            "and report it if it does"
        ) from error


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


def float_session(model: onnx.ModelProto, threads: int) -> FloatSession:
    """A session of a float model.

    Raises:
        ModelFileError: ONNX Runtime refuses the model.
    """
    try:
        return open_float_session(model, threads)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ModelFileError(f"ONNX Runtime cannot load the model: {_first_line(error)}") from error


def check_equal(original: FloatSession, canonical: onnx.ModelProto, feed: Feed, threads: int) -> None:
    """Run both float models on one feed.

    Raises:
        ModelFileError: ONNX Runtime cannot run the original.
        VerificationError: The canonical model does not compute what the original does.
    """
    session = float_session(canonical, threads)
    names = [output.name for output in original.get_outputs()]
    try:
        values = original.run(names, feed)
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime cannot run the model: {_first_line(error)}") from error
    for name, expected, found in zip(names, values, session.run(names, feed), strict=True):
        distance = float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))
        if not distance <= TOLERANCE:
            raise VerificationError(
                f"output '{name}' of the canonical model differs from the original by {distance:.2e} (relative): "
                "please report this model; nothing was written"
            )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
