"""Attempts on written models: damaged bytes, edited nodes and weights.

A session with the library must refuse with an exception or run; `qcompile inspect` must refuse with one line or answer.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from qcompiler import runtime_ops
from qcompiler.driver import compile_model
from qcompiler.driver.inspection import inspect_file
from qcompiler.errors import QcompilerError

from ..driver.runs import fast
from ..driver.tiny import images, tiny
from . import model_files, operators
from .outcomes import RefusalError, WrongError, one_line

Rng = np.random.Generator


def attempt(rng: Rng) -> str:
    """One written model."""
    bits, stage = (("w4a4", "lower"), ("w8a8", "lower"), ("w4a8", "quantize"))[rng.integers(3)]
    content = _compiled(bits, stage)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(_changed(rng, content))
        refusals = [refusal for refusal in (_inspect(path), _run(path)) if refusal]
    if refusals:
        raise RefusalError("; ".join(refusals))
    return f"{bits} {stage}"


@functools.cache
def _compiled(bits: str, stage: str) -> bytes:
    feeds = [{"x": image[None]} for image in images(4)]

    class Reader:
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

        def rewind(self) -> None:
            self.left = iter(feeds)

    options = fast(bits=bits, stop_after=stage, effort="low", allow_collapse=True)
    return compile_model(tiny(), options, Reader()).model.SerializeToString()


def _inspect(path: Path) -> str | None:
    try:
        inspect_file(path)
    except QcompilerError as error:
        return f"inspect: {one_line(error)}"
    return None


def _run(path: Path) -> str | None:
    try:
        session = runtime_ops.session(path, threads=1, library=True)
        session.run(None, {"x": images(2)})
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        if isinstance(error, MemoryError) or not str(error).strip():
            raise WrongError(repr(error)) from error
        return str(error)
    return None


def _changed(rng: Rng, content: bytes) -> bytes:
    if rng.random() < 0.4:
        return model_files.damaged(rng, content)
    model = onnx.load_from_string(content)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.4 and model.graph.node and model.graph.initializer:
            model_files.EDITS[rng.integers(len(model_files.EDITS))](rng, model)
            continue
        custom = [node for node in model.graph.node if node.domain == "qcompiler"]
        if not custom:
            break
        node = custom[rng.integers(len(custom))]
        if rng.random() < 0.5 and node.attribute:
            operators.change_attribute(rng, node)
        else:
            _change_constant(rng, model, str(rng.choice(list(node.input))))
    return model.SerializeToString()


def _change_constant(rng: Rng, model: onnx.ModelProto, name: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.name != name:
            continue
        if rng.random() < 0.5:
            operators.change_values(rng, tensor)
        else:
            try:
                value = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError):
                return
            cut = value[..., :-1] if value.ndim and rng.random() < 0.5 else value[None]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(cut), name))
