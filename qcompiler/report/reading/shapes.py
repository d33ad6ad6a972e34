"""Sizes and element types of the tensors of a model file, for one image or for its batch where the file fixes one.

ONNX infers the shapes of its own operators. Those of this project are replaced by standard ones whose results have the
same shapes and types; large constants become inputs, so that nothing but sizes is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from qcompiler.report.reading.wiring import DOMAIN

_LARGEST_SHAPE = 64  # elements: constants up to this size may say something about shapes
_FLOAT_WEIGHT = "/float"
# What results of the same shape as the first input are cast to.
_CASTS = {
    "GroupQuantizeLinear": TensorProto.UINT8,
    "GroupDequantizeLinear": TensorProto.FLOAT,
    "BlockQuantizeLinear": TensorProto.UINT8,  # its codes; the other results are read by BlockDequantizeLinear only
    "BlockDequantizeLinear": TensorProto.FLOAT,
    "RowNorm": TensorProto.FLOAT,
}

Shapes = Mapping[str, tuple[int, ...]]


def image_count(graph: onnx.GraphProto) -> int:
    """The batch where the first input fixes it, else 1."""
    constants = {tensor.name for tensor in graph.initializer}
    batches = [item.type.tensor_type.shape.dim[:1] for item in graph.input if item.name not in constants]
    return next((batch.dim_value for batch in (batches[0] if batches else ()) if batch.dim_value), 1)


def tensor_shapes(model: onnx.ModelProto) -> Shapes:
    """Shapes of all tensors whose size is known, constants left out."""
    return {item.name: shape for item in _inferred(model) if (shape := _shape(item)) is not None}


def element_types(model: onnx.ModelProto) -> Mapping[str, int]:
    """ONNX element types of all tensors whose type is known, constants left out."""
    return {item.name: item.type.tensor_type.elem_type for item in _inferred(model)}


def _inferred(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What is known about every tensor of a graph of stand-ins."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    small = [tensor for tensor in graph.initializer if np.prod(tensor.dims, dtype=np.int64) <= _LARGEST_SHAPE]
    known = {tensor.name for tensor in small}
    inputs = [_at_one_image(item) for item in graph.input if item.name not in constants]
    inputs += [_declared(tensor) for tensor in graph.initializer if tensor.name not in known]
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, TensorProto] = {}
    for node in graph.node:
        nodes += _stand_ins(node, constants, weights) if node.domain == DOMAIN else [node]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(tensor.dims)) for name, tensor in weights.items()
    ]
    stand_in = helper.make_graph(nodes, "shapes", inputs, [], [*small, _axes()])
    imports = [item for item in model.opset_import if item.domain != DOMAIN]
    found = onnx.shape_inference.infer_shapes(
        helper.make_model(stand_in, opset_imports=imports, ir_version=model.ir_version), data_prop=True
    )
    return [*found.graph.value_info, *inputs]


def _stand_ins(
    node: onnx.NodeProto, constants: Mapping[str, TensorProto], weights: dict[str, TensorProto]
) -> list[onnx.NodeProto]:
    x, y = node.input[0], node.output[0]
    if "Linear" in node.op_type and node.op_type not in _CASTS:
        name = next((item for item in node.input if item in constants and _is_codes(constants[item])), None)
        if name is None:
            return []
        weights[name + _FLOAT_WEIGHT] = constants[name]
        return [helper.make_node("MatMul", [x, name + _FLOAT_WEIGHT], [y])]
    if "Attention" in node.op_type:
        # A third of the packed queries, keys and values.
        return [helper.make_node("Split", [x], [y, f"{y}/key", f"{y}/value"], axis=-1, num_outputs=3)]
    if node.op_type == "GroupSort":
        axis = next(item.i for item in node.attribute if item.name == "axis")
        return [helper.make_node("ArgMax", [x], [y], axis=-3 - axis, keepdims=1)]
    same = [helper.make_node("Cast", [x], [y], to=_CASTS[node.op_type])] if node.op_type in _CASTS else []
    if node.op_type == "RowNorm":
        same.append(helper.make_node("ReduceMax", [x, _axes().name], [node.output[1]], keepdims=1))
    return same


def _is_codes(tensor: TensorProto) -> bool:
    return len(tensor.dims) == 2 and tensor.data_type in (TensorProto.INT4, TensorProto.INT8)


def _axes() -> TensorProto:
    return helper.make_tensor("/last_axis", TensorProto.INT64, [1], [-1])


def _at_one_image(item: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    found = onnx.ValueInfoProto()
    found.CopyFrom(item)
    for batch in found.type.tensor_type.shape.dim[:1]:
        batch.dim_value = batch.dim_value or 1
    return found


def _declared(tensor: TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _shape(item: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    dims = item.type.tensor_type.shape.dim
    if not item.type.tensor_type.HasField("shape") or any(not dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)
