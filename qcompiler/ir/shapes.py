"""Shapes and shape values of a graph whose only unknown is the batch size.

One walk over the sorted nodes. Where a shape is computed by nodes (Shape, Gather, Concat, ...) their values are
followed too. Shape rules of single operators are ONNX's own, except where they cannot count in multiples of the batch
size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import shape_inference
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from qcompiler.errors import ModelFileError, UnsupportedModelError
from qcompiler.ir.constants import is_readable
from qcompiler.ir.dims import Batch, Shape, UnresolvableError, collapse, fixed, from_text, product, to_text
from qcompiler.ir.evaluate import evaluate_symbolic, normalise, resolve_reshape
from qcompiler.ir.runtime_operators import DOMAIN as RUNTIME_DOMAIN
from qcompiler.ir.runtime_operators import result_shape

# Values of larger tensors are weights, not shapes.
_LARGEST_VALUE = 256


@dataclass
class ShapeInfo:
    """What is known about the tensors of a graph, by tensor name.

    Attributes:
        batch: name of the batch symbol.
        images: the batch size where it is fixed, else 1.
        shapes: shapes; a tensor of unknown shape is missing.
        dtypes: ONNX element types.
        values: values of small tensors that are known, elements possibly multiples of the batch size (dtype object).
        known: output types of nodes seen, by what they depend on: a transformer repeats the same nodes many times.
    """

    batch: str
    images: int = 1
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict[Hashable, list[tuple[int, Shape | None]]] = field(default_factory=dict, repr=False)

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """The shape of a tensor, or None when it is unknown."""
        if isinstance(tensor, gs.Constant):
            return tuple(int(dim) for dim in tensor.shape)
        return self.shapes.get(tensor.name)

    def value(self, tensor: gs.Tensor) -> np.ndarray | None:
        """The value of a small known tensor, or None."""
        if isinstance(tensor, gs.Constant):
            small = math.prod(tensor.shape) <= _LARGEST_VALUE
            return np.asarray(tensor.values) if small and is_readable(tensor) else None
        return self.values.get(tensor.name)


def batch_name(graph: gs.Graph) -> str:
    """The name of the batch symbol: that of axis 0 of the inputs, `batch` when it has none.

    Raises:
        UnsupportedModelError: another axis of an input is unknown, or inputs have different symbols.
    """
    names = set()
    for tensor in graph.inputs:
        if tensor.shape is None:
            raise UnsupportedModelError(f"input '{tensor.name}' has no shape; export the model with a fixed image size")
        for axis, dim in enumerate(tensor.shape):
            if isinstance(dim, int) and dim > 0:
                continue
            if axis:
                raise UnsupportedModelError(
                    f"axis {axis} of input '{tensor.name}' has no fixed size ({dim}); only the batch may be dynamic: "
                    "export the model with a fixed image size"
                )
            names.add(str(dim) if dim else "batch")
    if len(names) > 1:
        raise UnsupportedModelError(f"inputs have different batch symbols {sorted(names)}; export them with one")
    return names.pop() if names else "batch"


def infer(graph: gs.Graph) -> ShapeInfo:
    """Shapes, element types and shape values of all tensors.

    Args:
        graph: a graph in topological order.

    Raises:
        ModelFileError: a node contradicts its operator's definition.
        UnsupportedModelError: an unknown dimension other than the batch.
    """
    info = ShapeInfo(batch_name(graph))
    for tensor in graph.inputs:
        dims = [dim if isinstance(dim, int) and dim > 0 else Batch(1) for dim in tensor.shape]
        info.shapes[tensor.name] = tuple(dims)
        info.dtypes[tensor.name] = element_type(tensor)
    first = info.shapes[graph.inputs[0].name][:1] if graph.inputs else ()
    info.images = first[0] if first and isinstance(first[0], int) else 1
    for node in graph.nodes:
        _infer_node(node, graph.opset, info)
    return info


def annotate(graph: gs.Graph) -> ShapeInfo:
    """Writes inferred shapes and element types into the graph's variables; returns them."""
    info = infer(graph)
    for node in graph.nodes:
        for tensor in node.outputs:
            if tensor.name in info.shapes:
                tensor.shape = [to_text(dim, info.batch) for dim in info.shapes[tensor.name]]
            if tensor.name in info.dtypes:
                tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(info.dtypes[tensor.name])
    return info


def element_type(tensor: gs.Tensor) -> int:
    """The ONNX element type of a tensor; float32 where it is not given."""
    if tensor.dtype is None:
        return int(onnx.TensorProto.FLOAT)
    if isinstance(tensor.dtype, int):
        return tensor.dtype
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)))


def _infer_node(node: gs.Node, opset: int, info: ShapeInfo) -> None:
    if node.domain not in (None, "", "ai.onnx"):
        _keep_annotations(node, info)
        return
    _infer_by_schema(node, opset, info)
    shape = _shape_in_batches(node, info)
    if shape is not None:
        info.shapes[node.outputs[0].name] = shape
    value = _value(node, info)
    if value is not None:
        name = node.outputs[0].name
        if value.dtype != object and name in info.dtypes:
            value = value.astype(onnx.helper.tensor_dtype_to_np_dtype(info.dtypes[name]))
        info.values[name] = value
        info.shapes[name] = value.shape


def _keep_annotations(node: gs.Node, info: ShapeInfo) -> None:
    """Operators of other domains have no rule here: what the pass that made them wrote stays."""
    for tensor in node.outputs:
        dims = [from_text(dim, info.batch) for dim in tensor.shape] if tensor.shape is not None else [None]
        if all(dim is not None for dim in dims):
            info.shapes[tensor.name] = tuple(dim for dim in dims if dim is not None)
        if tensor.dtype is not None:
            info.dtypes[tensor.name] = element_type(tensor)
        elif node.inputs and node.domain == RUNTIME_DOMAIN and (kind := _elements(node.inputs[0], info)):
            info.dtypes[tensor.name] = kind
    shape = result_shape(node, [info.shape(tensor) for tensor in node.inputs])
    if shape is not None:
        info.shapes[node.outputs[0].name] = shape


def _infer_by_schema(node: gs.Node, opset: int, info: ShapeInfo) -> None:
    if any(not tensor.is_empty() and not _elements(tensor, info) for tensor in node.inputs):
        return  # behind an operator of another domain, about which nothing is known
    key = _signature(node, info)
    found = info.known.get(key) if key is not None else None
    if found is None:
        found = _outputs_by_schema(node, opset, info)
        if key is not None:
            info.known[key] = found
    for tensor, (kind, shape) in zip(node.outputs, found, strict=False):
        if kind:
            info.dtypes[tensor.name] = kind
        if shape is not None:
            info.shapes[tensor.name] = shape


def _signature(node: gs.Node, info: ShapeInfo) -> Hashable | None:
    """What the output types depend on; None when that is long to write down."""
    if any(not isinstance(value, int | float | str | list) for value in node.attrs.values()):
        return None
    inputs = []
    for tensor in node.inputs:
        value = info.value(tensor)
        values = value.tobytes() if value is not None and value.dtype != object else None
        inputs.append((info.shape(tensor), _elements(tensor, info), values))
    return node.op, len(node.outputs), repr(sorted(node.attrs.items())), tuple(inputs)


def _elements(tensor: gs.Tensor, info: ShapeInfo) -> int:
    return element_type(tensor) if isinstance(tensor, gs.Constant) else info.dtypes.get(tensor.name, 0)


def _outputs_by_schema(node: gs.Node, opset: int, info: ShapeInfo) -> list[tuple[int, Shape | None]]:
    """Element type (0 for unknown) and shape of each output by ONNX's own rule."""
    types, data = {}, {}
    for tensor in node.inputs:
        if tensor.is_empty():
            continue
        shape = info.shape(tensor)
        texts = None if shape is None else [to_text(dim, info.batch) for dim in shape]
        types[tensor.name] = onnx.helper.make_tensor_type_proto(_elements(tensor, info), texts)
        value = info.value(tensor)
        if value is not None and value.dtype != object:
            data[tensor.name] = onnx.numpy_helper.from_array(value, tensor.name)
    try:
        schema = onnx.defs.get_schema(node.op, opset, "")
        inferred = shape_inference.infer_node_outputs(
            schema, OnnxExporter.export_node(node), types, data, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
    except onnx.defs.SchemaError as error:
        raise UnsupportedModelError(f"operator '{node.op}' (node '{node.name}') is unknown in opset {opset}") from error
    except (shape_inference.InferenceError, RuntimeError) as error:
        raise ModelFileError(f"node '{node.name}' ({node.op}) is inconsistent: {str(error).splitlines()[0]}") from error
    return [_type_and_shape(inferred.get(tensor.name), info.batch) for tensor in node.outputs]


def _type_and_shape(kind: onnx.TypeProto | None, batch: str) -> tuple[int, Shape | None]:
    if kind is None:
        return 0, None
    elements = kind.tensor_type.elem_type
    if not kind.tensor_type.HasField("shape"):
        return elements, None
    dims = [
        int(dim.dim_value) if dim.HasField("dim_value") else from_text(dim.dim_param or None, batch)
        for dim in kind.tensor_type.shape.dim
    ]
    known = tuple(dim for dim in dims if dim is not None)
    return elements, known if len(known) == len(dims) else None


def _shape_in_batches(node: gs.Node, info: ShapeInfo) -> Shape | None:
    """Shapes that need arithmetic in multiples of the batch size, which ONNX's rules do not have."""
    shape = info.shape(node.inputs[0]) if node.inputs else None
    target = info.value(node.inputs[1]) if len(node.inputs) > 1 else None
    try:
        if node.op == "Reshape" and shape is not None and target is not None:
            return tuple(resolve_reshape(shape, target.tolist(), bool(node.attrs.get("allowzero", 0))))
        if node.op == "Expand" and shape is not None and target is not None:
            return _broadcast(shape, tuple(target.tolist()))
        if node.op == "Flatten" and shape is not None:
            axis = int(node.attrs.get("axis", 1)) % (len(shape) + 1)
            return tuple(collapse(dims) for dims in (shape[:axis], shape[axis:]))
        if node.op == "Tile" and shape is not None and target is not None:
            return tuple(collapse(pair) for pair in zip(shape, target.tolist(), strict=True))
        if node.op == "Resize" and shape is not None:
            return _resized(node, shape, info)
        if node.op == "ConstantOfShape":
            dims = info.value(node.inputs[0])
            return None if dims is None else tuple(dims.tolist())
    except UnresolvableError:
        return None
    return None


def _resized(node: gs.Node, shape: Shape, info: ShapeInfo) -> Shape | None:
    """Sizes, or floors of scaled sizes; ONNX's rule gives up where the batch is unknown."""
    given = {index: info.value(node.inputs[index]) for index in (2, 3) if index < len(node.inputs)}
    values = next((value for value in given.values() if value is not None and value.size), None)
    if values is None or node.attrs.get("keep_aspect_ratio_policy", "stretch") not in ("stretch", b"stretch"):
        return None
    axes = [int(axis) % len(shape) for axis in node.attrs.get("axes", range(len(shape)))]
    found = list(shape)
    for axis, value in zip(axes, values.tolist(), strict=True):
        if values is given.get(3):
            found[axis] = value
        elif value != 1:
            found[axis] = math.floor(fixed(shape[axis]) * value)
    return tuple(found)


def _broadcast(left: Shape, right: Shape) -> Shape:
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    return tuple(second if first == 1 else first for first, second in pairs)


def _value(node: gs.Node, info: ShapeInfo) -> np.ndarray | None:
    if node.op in ("Shape", "Size"):
        shape = info.shape(node.inputs[0])
        if shape is None:
            return None
        if node.op == "Shape":
            shape = shape[int(node.attrs.get("start", 0)) : node.attrs.get("end", None)]
            return normalise(np.array(shape, dtype=object))
        coefficient, power = product(shape)
        return None if power > 1 else normalise(np.array(Batch(coefficient) if power else coefficient, dtype=object))
    if not node.outputs or any(tensor.is_empty() for tensor in node.inputs):
        return None
    inputs = [info.value(tensor) for tensor in node.inputs]
    known = [value for value in inputs if value is not None]
    if len(known) < len(inputs) or sum(value.size for value in known) > _LARGEST_VALUE:
        return None
    try:
        value = evaluate_symbolic(node, known)
    except UnresolvableError:
        return None
    return value if value is not None and value.size <= _LARGEST_VALUE else None
