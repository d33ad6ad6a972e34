"""A model without its weights, which are held once for all the sessions that are cut out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnxruntime as ort

from qcompiler.calibration.float_session import session_options
from qcompiler.ir.weight_files import is_external, tensor_array
from qcompiler.relevance.array_store import Array, ArrayStore

# Bytes. Smaller constants stay where graph optimisations look for them: shapes, scalars, most biases.
HELD_FROM = 4096


@dataclass(frozen=True)
class Skeleton:
    """A model whose large initialisers lie outside of it.

    Cutting a part, sending it and loading it then cost nothing for the weights.

    Attributes:
        model: The model; large initialisers have a type and a shape only.
        weights: Those initialisers, by name.
    """

    model: onnx.ModelProto
    weights: ArrayStore[str]

    @classmethod
    def of(cls, model: onnx.ModelProto, folder: Path | None = None, held_from: int = HELD_FROM) -> Skeleton:
        """Take a model apart; it is not changed.

        Args:
            model: A model; weights that lie in files stay there.
            folder: Folder to make for the weights; None keeps them in memory.
            held_from: Bytes of the smallest float32 initialiser that is taken out.

        Raises:
            OutputPathError: The folder cannot be written.
        """
        arrays = (
            (tensor.name, onnx.numpy_helper.to_array(tensor))
            for tensor in model.graph.initializer
            if _is_held(tensor, held_from)
        )
        weights = ArrayStore[str].of(arrays, folder)
        return cls(_without(model, weights), weights)

    def constant(self, name: str) -> Array:
        """The value of an initialiser."""
        if name in self.weights:
            return self.weights.get(name)
        return next(tensor_array(item) for item in self.model.graph.initializer if item.name == name)

    def session(self, part: onnx.ModelProto, threads: int) -> Session:
        """A session of the whole model or of a part of it.

        Args:
            part: ``model``, or some of its nodes and initialisers.
            threads: Threads of ONNX Runtime, 0 for all cores.
        """
        options = session_options(threads, weights_in_files=bool(self._mapped(part)))
        names = [tensor.name for tensor in part.graph.initializer if tensor.name in self.weights]
        arrays = [self.weights.get(name) for name in names]
        held = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays]
        options.add_external_initializers(names, held)
        session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Session(session, (arrays, held))

    def in_files(self, folder: Path) -> Skeleton:
        """The same with weights in files.

        Raises:
            OutputPathError: The folder cannot be written.
        """
        return replace(self, weights=self.weights.in_files(folder))

    def in_memory(self) -> Skeleton:
        """The same with weights in memory."""
        found = self._mapped(self.model)
        if not found:
            return replace(self, weights=self.weights.in_memory())
        mapped = ArrayStore[str].of((tensor.name, tensor_array(tensor)) for tensor in found)
        weights = ArrayStore[str]({**self.weights.in_memory().entries, **mapped.in_memory().entries})
        return Skeleton(_without(self.model, weights), weights)

    def _mapped(self, part: onnx.ModelProto) -> list[onnx.TensorProto]:
        """Initialisers that lie in files of a large model, and not here."""
        return [item for item in part.graph.initializer if is_external(item) and item.name not in self.weights]


class Session:
    """A session of ONNX Runtime and the memory that it reads its weights from.

    Args:
        session: The session.
        held: What must live as long as the session.
    """

    def __init__(self, session: ort.InferenceSession, held: object) -> None:
        self._session = session
        self._held = held
        self._inputs = [item.name for item in session.get_inputs()]
        self._outputs = [item.name for item in session.get_outputs()]

    def run(self, values: Mapping[str, Array], names: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name.

        Args:
            values: At least the inputs.
            names: Wanted outputs; None for all.
        """
        wanted = list(self._outputs if names is None else names)
        found = self._session.run(wanted, {name: values[name] for name in self._inputs})
        return dict(zip(wanted, found, strict=True))


def _is_held(tensor: onnx.TensorProto, held_from: int) -> bool:
    large = tensor.data_type == onnx.TensorProto.FLOAT and 4 * math.prod(tensor.dims) >= held_from
    return large and not is_external(tensor)


def _without(model: onnx.ModelProto, weights: ArrayStore[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    graph = copy.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    # What has no entry is float32; shapes of inner tensors would only be wrong for a part of the model.
    float32 = onnx.TensorProto.FLOAT
    graph.value_info.extend(
        onnx.helper.make_tensor_value_info(item.name, item.type.tensor_type.elem_type, None)
        for item in model.graph.value_info
        if item.type.tensor_type.elem_type not in (float32, 0)
    )
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            graph.initializer.append(_declaration(tensor))
        else:
            graph.initializer.append(tensor)
    return copy


def _declaration(tensor: onnx.TensorProto) -> onnx.TensorProto:
    declared = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    declared.data_location = onnx.TensorProto.EXTERNAL
    declared.external_data.add(key="location", value="held")  # never opened: the session is given the array
    return declared
