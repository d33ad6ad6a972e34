"""Models in half precision as float32 models: what runs on integers afterwards is measured against float32."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from qcompiler.ir.weight_files import WeightFiles, is_external, tensor_array

_NARROW: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
# Attributes that name an element type; the numbers of the narrow ones mean nothing else there.
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "softmax_precision", "stash_type"})

# Of GELU by the error function and of its approximation.
_GELU_SCALARS = (math.sqrt(2), math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715)


def widen(model: onnx.ModelProto, files: WeightFiles | None = None) -> tuple[str, ...]:
    """Turns every float16 and bfloat16 value of a model into float32, in place.

    Weights, constants, casts, inputs and outputs, also those of subgraphs and functions. Values stay what they are, so
    the float32 model differs by the roundings that it no longer does; scalars of GELU get the digits back that half
    precision took from them, so that GELU is recognised.

    Args:
        model: the model.
        files: takes wide values of weights that lie in files; needed for models that have such.

    Returns:
        The types that were found, in words; empty where the model was not changed.
    """
    found: set[int] = set()
    for tensor in model.graph.initializer:
        if files is not None and is_external(tensor) and tensor.data_type in _NARROW:
            found.add(tensor.data_type)
            tensor.CopyFrom(files.put_array(tensor.name, tensor_array(tensor).astype(np.float32)))
    _graph(model.graph, found)
    for function in model.functions:
        _nodes(function.node, found)
        _types(function.value_info, found)
    return tuple(_NARROW[kind] for kind in sorted(found))


def _graph(graph: onnx.GraphProto, found: set[int]) -> None:
    for tensor in graph.initializer:
        _tensor(tensor, found)
    _types([*graph.input, *graph.output, *graph.value_info], found)
    _nodes(graph.node, found)


def _nodes(nodes: Iterable[onnx.NodeProto], found: set[int]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.INT and attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
                found.add(attribute.i)
                attribute.i = TensorProto.FLOAT
            elif attribute.type == AttributeProto.TENSOR:
                _tensor(attribute.t, found)
            for tensor in attribute.tensors:
                _tensor(tensor, found)
            if attribute.type == AttributeProto.GRAPH:
                _graph(attribute.g, found)
            for graph in attribute.graphs:
                _graph(graph, found)


def _tensor(tensor: TensorProto, found: set[int]) -> None:
    if tensor.data_type in _NARROW:
        found.add(tensor.data_type)
        narrow = onnx.numpy_helper.to_array(tensor)
        values = narrow.astype(np.float32)
        if values.size == 1:
            exact = (value for value in _GELU_SCALARS if np.asarray(value, narrow.dtype) == narrow.reshape(()))
            values = np.full(values.shape, next(exact, values.reshape(())), np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _types(values: Iterable[onnx.ValueInfoProto], found: set[int]) -> None:
    for value in values:
        kind = value.type
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
        if kind.HasField("tensor_type") and kind.tensor_type.elem_type in _NARROW:
            found.add(kind.tensor_type.elem_type)
            kind.tensor_type.elem_type = TensorProto.FLOAT
