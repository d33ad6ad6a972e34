"""What a model reads and writes, in the words of the KServe v2 protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from qcompiler.errors import UnsupportedModelError

_DATATYPES: dict[int, str] = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
}


@dataclass(frozen=True)
class TensorSignature:
    """One input or output.

    Attributes:
        name: Its name in the model.
        datatype: Element type in the protocol's words (`FP32`).
        shape: Sizes of all axes, -1 where a size is free.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """All inputs and outputs of a model, in its order."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]

    @property
    def batched(self) -> bool:
        """Whether axis 0 of every tensor is the batch, of free size."""
        return all(tensor.shape[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
        }


def signature_of(graph: onnx.GraphProto) -> Signature:
    """The inputs that a caller must give, and all outputs.

    Raises:
        UnsupportedModelError: One is not a tensor, has no shape, or has elements that the protocol does not know.
    """
    weights = {tensor.name for tensor in graph.initializer}
    return Signature(_tensors(item for item in graph.input if item.name not in weights), _tensors(graph.output))


def _tensors(items: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSignature, ...]:
    found = []
    for item in items:
        kind = item.type.tensor_type
        datatype = _DATATYPES.get(kind.elem_type)
        if datatype is None or not kind.HasField("shape"):
            what = "no shape" if datatype else f"elements of type {_type_name(kind.elem_type)}"
            raise UnsupportedModelError(
                f"'{item.name}' has {what}, which servers cannot offer; export the model with tensors of fixed rank "
                "and of float32, float16, integers or booleans"
            )
        found.append(TensorSignature(item.name, datatype, tuple(map(_size, kind.shape.dim))))
    return tuple(found)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int:
    return int(dim.dim_value) if dim.HasField("dim_value") else -1


def _type_name(elements: int) -> str:
    return str(onnx.TensorProto.DataType.Name(elements)).lower()
