"""Values of nodes whose inputs are known, also where some elements are multiples of the unknown batch size.

The functions below compute on NumPy arrays. An array of shape elements that mention the batch size has dtype object and
holds `Batch` elements, on which indexing, joining and arithmetic work as on integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from qcompiler.ir.dims import Batch, UnresolvableError, equal, product

Arrays = Sequence[np.ndarray]
Function = Callable[[Arrays, dict[str, Any]], np.ndarray]


def resolve_reshape(shape: Sequence[Any], target: Sequence[Any], allow_zero: bool) -> list[Any]:
    """The output shape of a Reshape, with 0 and -1 resolved.

    Raises:
        UnresolvableError: when -1 stands for something that is not an integer or a multiple of the batch size.
    """
    dims = [
        shape[axis] if not isinstance(dim, Batch) and dim == 0 and not allow_zero else dim
        for axis, dim in enumerate(target)
    ]
    unknown = [axis for axis, dim in enumerate(dims) if not isinstance(dim, Batch) and dim == -1]
    if unknown:
        total, power = product(shape)
        known, known_power = product(dim for axis, dim in enumerate(dims) if axis != unknown[0])
        if known == 0 or total % known or power - known_power not in (0, 1):
            raise UnresolvableError(f"Reshape of {list(shape)} to {list(target)}")
        dims[unknown[0]] = Batch(total // known) if power > known_power else total // known
    return [dim if isinstance(dim, Batch) else int(dim) for dim in dims]


def _reshape(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    return inputs[0].reshape(resolve_reshape(inputs[0].shape, inputs[1].tolist(), bool(attrs.get("allowzero", 0))))


def _transpose(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    return np.transpose(inputs[0], attrs.get("perm"))


def _slice(inputs: Arrays, _attrs: dict[str, Any]) -> np.ndarray:
    starts, ends = _ints(inputs[1]), _ints(inputs[2])
    axes = _ints(inputs[3]) if len(inputs) > 3 else list(range(len(starts)))
    steps = _ints(inputs[4]) if len(inputs) > 4 else [1] * len(starts)
    index: list[slice] = [slice(None)] * inputs[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Python reads the end -1 of a reversed slice as the last element, ONNX clamps what lies below the first one.
        stop = None if step < 0 and end < -inputs[0].shape[axis] else end
        index[axis] = slice(start, stop, step)
    return inputs[0][tuple(index)]


def _gather(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    return np.take(inputs[0], inputs[1].astype(np.int64), axis=int(attrs.get("axis", 0)))


def _squeeze(inputs: Arrays, _attrs: dict[str, Any]) -> np.ndarray:
    return np.squeeze(inputs[0], tuple(_ints(inputs[1])) if len(inputs) > 1 else None)


def _unsqueeze(inputs: Arrays, _attrs: dict[str, Any]) -> np.ndarray:
    return np.expand_dims(inputs[0], tuple(_ints(inputs[1])))


def _concat(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    return np.concatenate(list(inputs), axis=int(attrs["axis"]))


def _flatten(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    axis = int(attrs.get("axis", 1)) % (inputs[0].ndim + 1)
    return inputs[0].reshape(int(np.prod(inputs[0].shape[:axis], dtype=np.int64)), -1)


def _expand(inputs: Arrays, _attrs: dict[str, Any]) -> np.ndarray:
    return np.array(np.broadcast_to(inputs[0], np.broadcast_shapes(inputs[0].shape, tuple(_ints(inputs[1])))))


def _cast(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    if inputs[0].dtype == object:
        return inputs[0]
    return inputs[0].astype(onnx.helper.tensor_dtype_to_np_dtype(int(attrs["to"])))


def _constant_of_shape(inputs: Arrays, attrs: dict[str, Any]) -> np.ndarray:
    value = attrs["value"].values if "value" in attrs else np.zeros(1, np.float32)
    return np.full(_ints(inputs[0]), value.reshape(()), dtype=value.dtype)


def _range(inputs: Arrays, _attrs: dict[str, Any]) -> np.ndarray:
    start, limit, delta = (item.reshape(-1).tolist()[0] for item in inputs)
    if any(isinstance(item, Batch) for item in (start, limit, delta)):
        raise UnresolvableError("a range that depends on the batch size")
    return np.arange(start, limit, delta)


def _divide(left: Any, right: Any) -> Any:
    if isinstance(left, Batch):
        return left // right
    if isinstance(right, Batch):
        raise UnresolvableError(f"{left} / {right}")
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _elementwise(function: Callable[..., Any]) -> Function:
    def evaluate(inputs: Arrays, _attrs: dict[str, Any]) -> np.ndarray:
        return np.asarray(function(*inputs))

    return evaluate


def _ints(values: np.ndarray) -> list[int]:
    if any(isinstance(value, Batch) for value in values.reshape(-1).tolist()):
        raise UnresolvableError("a bound that depends on the batch size")
    return [int(value) for value in values.reshape(-1)]


# Operators that only move elements: also used to push index tensors through a chain of them (layout.py).
LAYOUT: dict[str, Function] = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Identity": lambda inputs, _attrs: inputs[0],
}

SYMBOLIC: dict[str, Function] = {
    **LAYOUT,
    "Concat": _concat,
    "Expand": _expand,
    "Cast": _cast,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(np.frompyfunc(_divide, 2, 1)),
    "Mod": _elementwise(np.mod),
    "Neg": _elementwise(np.negative),
    "Equal": lambda inputs, _attrs: np.asarray(np.frompyfunc(equal, 2, 1)(*inputs)).astype(bool),
    "Where": _elementwise(np.where),
    "ReduceProd": lambda inputs, attrs: np.asarray(inputs[0].prod(keepdims=bool(attrs.get("keepdims", 1)))),
    "Floor": lambda inputs, _attrs: inputs[0] if inputs[0].dtype == object else np.floor(inputs[0]),
}


def evaluate(node: gs.Node, inputs: Arrays, opset: int) -> list[np.ndarray]:
    """The outputs of a node whose inputs are known numbers.

    Args:
        node: the node; its operator belongs to the standard domain.
        inputs: one array per input that is given, in order.
        opset: version of the standard domain.

    Returns:
        One array per output, of the operator's own dtype.
    """
    attrs = node.attrs
    if node.op == "Constant":
        return [_constant_value(attrs)]
    if node.op in LAYOUT and len(inputs) == len(node.inputs):
        return [np.array(LAYOUT[node.op](inputs, attrs), order="C")]
    proto = OnnxExporter.export_node(node)
    given = [tensor for tensor in node.inputs if not tensor.is_empty()]
    feeds = {tensor.name: value for tensor, value in zip(given, inputs, strict=True)}
    graph = onnx.helper.make_graph(
        [proto],
        "constant",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds],
        [onnx.helper.make_value_info(tensor.name, onnx.TypeProto()) for tensor in node.outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, feeds)]


def evaluate_symbolic(node: gs.Node, inputs: Arrays) -> np.ndarray | None:
    """The value of a node on shape tensors, or None when the operator is not one of shape arithmetic.

    Args:
        node: the node; it has one output.
        inputs: integer, boolean or object arrays; see the module's docstring.

    Raises:
        UnresolvableError: the value depends on the batch size in another way than as a multiple of it.
    """
    function = SYMBOLIC.get(node.op)
    if function is None or len(node.outputs) != 1:
        return None
    return normalise(np.asarray(function(inputs, node.attrs)))


def normalise(values: np.ndarray) -> np.ndarray:
    """An object array as a plain one where no element mentions the batch size."""
    if values.dtype != object or any(isinstance(value, Batch) for value in values.reshape(-1)):
        return values
    return np.array(values.tolist()).reshape(values.shape)


def _constant_value(attrs: dict[str, Any]) -> np.ndarray:
    if "value" in attrs:
        return np.asarray(attrs["value"].values)
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64)):
        if name in attrs:
            return np.asarray(attrs[name], dtype)
    return np.asarray(attrs["value_ints"], np.int64)
