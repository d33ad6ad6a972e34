"""Sessions of float models; one whose weights lie in files runs in parts, so that few of them are in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from qcompiler.ir.submodel import constants_read, read_tensors, submodel
from qcompiler.ir.weight_files import ROOT, in_files, tensor_bytes

PART_BYTES = 256 << 20  # weights of one part: what a run keeps in memory

Array = NDArray[Any]
FloatSession = Any
"""An `onnxruntime.InferenceSession` or a :class:`StreamedSession`: `run`, `get_inputs` and `get_outputs`."""


def float_session(model: onnx.ModelProto, threads: int = 0) -> FloatSession:
    """A session on the CPU.

    Args:
        model: A float model.
        threads: Threads of ONNX Runtime, 0 for its default.

    Raises:
        Exception: ONNX Runtime refuses the model.
    """
    if in_files(model):
        return StreamedSession(model, threads)
    return ort.InferenceSession(
        model.SerializeToString(), session_options(threads, False), providers=["CPUExecutionProvider"]
    )


def session_options(threads: int, weights_in_files: bool) -> ort.SessionOptions:
    """Options of every session of a float model.

    Args:
        threads: Threads of ONNX Runtime, 0 for its default.
        weights_in_files: Map the weights and read them where they lie: no rearranged copies.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if weights_in_files:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", ROOT)
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    return options


@dataclass(frozen=True)
class _Part:
    """Neighbouring nodes: what they read of other parts or of the feed, what they give, and both as a model."""

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class StreamedSession:
    """Runs a model part by part; a part's session and its weights are in memory only while it runs.

    Args:
        model: A float model with sorted nodes, whose large weights lie in files.
        threads: Threads of ONNX Runtime, 0 for its default.
        part_bytes: Most bytes of one part's weights, if it has more than one node.
    """

    def __init__(self, model: onnx.ModelProto, threads: int = 0, part_bytes: int = PART_BYTES) -> None:
        self._threads = threads
        self._parts = _parts(_typed(model), part_bytes)
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [_Value.of(item) for item in model.graph.input if item.name not in constants]
        self._outputs = [_Value.of(item) for item in model.graph.output]
        self._reads = Counter(name for part in self._parts for name in part.inputs)
        self._open(self._parts[0])  # a model that ONNX Runtime refuses is refused here

    def get_inputs(self) -> list[_Value]:
        """As of `onnxruntime.InferenceSession`."""
        return self._inputs

    def get_outputs(self) -> list[_Value]:
        """As of `onnxruntime.InferenceSession`."""
        return self._outputs

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Array]) -> list[Array]:
        """As of `onnxruntime.InferenceSession`."""
        wanted = [item.name for item in self._outputs] if names is None else list(names)
        values, waiting = dict(feed), Counter(self._reads)
        for part in self._parts:
            outputs = [name for name in part.outputs if waiting[name] > 0 or name in wanted]
            if not outputs:
                continue
            session = self._open(part)
            found = session.run(outputs, {name: values[name] for name in part.inputs})
            values.update(zip(outputs, found, strict=True))
            waiting.subtract(part.inputs)
            for name in part.inputs:
                if waiting[name] <= 0 and name not in wanted:
                    values.pop(name, None)
        return [values[name] for name in wanted]

    def _open(self, part: _Part) -> ort.InferenceSession:
        options = session_options(self._threads, weights_in_files=True)
        return ort.InferenceSession(part.model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class _Value:
    """An input or output, as ONNX Runtime describes it."""

    name: str
    shape: list[int | str | None]
    type: str

    @classmethod
    def of(cls, item: onnx.ValueInfoProto) -> _Value:
        tensor = item.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
        name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        return cls(item.name, shape, f"tensor({name})")


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the element types of inner tensors, where ONNX can tell them."""
    try:
        return onnx.shape_inference.infer_shapes(model)
    except Exception:  # parts are declared as float32 then, and ONNX Runtime says where that is wrong
        return model


def _parts(model: onnx.ModelProto, most: int) -> list[_Part]:
    constants = {tensor.name: tensor_bytes(tensor) for tensor in model.graph.initializer}
    groups: list[list[onnx.NodeProto]] = [[]]
    held: set[str] = set()
    for node in model.graph.node:
        new = constants_read([node], constants)
        if groups[-1] and sum(constants[name] for name in held | new) > most:
            groups.append([])
            held = set()
        groups[-1].append(node)
        held |= new
    return list(_cut(model, groups, constants))


def _cut(model: onnx.ModelProto, groups: Sequence[Sequence[onnx.NodeProto]], constants: Iterable[str]) -> list[_Part]:
    parts: list[_Part] = []
    needed = {item.name for item in model.graph.output}
    for nodes in reversed(groups):
        inputs = read_tensors(nodes, constants)
        outputs = [name for node in nodes for name in node.output if name in needed]
        parts.append(_Part(submodel(model, nodes, inputs, outputs), tuple(inputs), tuple(outputs)))
        needed |= set(inputs)
    return parts[::-1]
