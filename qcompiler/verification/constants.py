"""The constants that quantized layers read: element types, shapes, and values in the ranges that operators take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.ir.functions import DOMAIN, OPERATORS, function
from qcompiler.report.metadata import read_layer
from qcompiler.report.reading.finding import find_layers
from qcompiler.report.reading.layers import FoundLinear
from qcompiler.report.reading.wiring import Wiring, whole_numbers
from qcompiler.verification.checks import Check, judged

_OPERAND_LIMIT = 127  # of the signed 8-bit products
_GROUP_COLUMNS = 6  # lower, upper, scale, zero point, multiplier, outer
_WEIGHT_TYPES = (onnx.TensorProto.INT4, onnx.TensorProto.INT8)

Values = NDArray[Any]


def check_constants(model: onnx.ModelProto) -> Check:
    """Types, shapes and ranges of weights, scales, blocks, group tables and codebooks.

    Codes must also fit the width that the layer's metadata claims.
    """
    wiring = Wiring(model.graph)
    own = [node for node in model.graph.node if node.domain == DOMAIN and node.op_type in OPERATORS]
    read_back = [node for node in model.graph.node if node.domain == "" and node.op_type == "DequantizeLinear"]
    problems = [problem for node in own for problem in _operator_problems(node, wiring)]
    problems += [problem for node in read_back for problem in _read_back_problems(node, wiring)]
    weights = 0
    for layer in find_layers(wiring):
        if isinstance(layer, FoundLinear):
            weights += 1
            report = read_layer(layer.node)
            claimed = None if report is None else report.weight_bits
            if claimed is not None and layer.weight.bits > claimed:
                problems.append(
                    f"the codes of '{layer.node.name}' need {layer.weight.bits} bits and its metadata claims {claimed}"
                )
    return judged("constants", problems, f"codes of {weights} weights, their scales and all tables are in range")


def _operator_problems(node: onnx.NodeProto, wiring: Wiring) -> Iterator[str]:
    roles = dict(zip(function(node.op_type).input, node.input, strict=False))
    for role, name in roles.items():
        rule = _rule(role)
        if rule is None:
            continue
        where = f"input '{role}' of node '{node.name}' ('{name}')"
        tensor = wiring.constant(name)
        if tensor is None:
            yield f"{where} is no constant"
            continue
        problem = rule(tensor, onnx.numpy_helper.to_array(tensor))
        if problem is not None:
            yield f"{where} {problem}"
    yield from _size_problems(node, roles, wiring)
    bits = whole_numbers(node, "bits") or whole_numbers(node, "qk_bits") or ()
    for width in (*bits, *(whole_numbers(node, "v_bits") or ())):
        if not 2 <= width <= 8:
            yield f"node '{node.name}' has codes of {width} bits, and 2 to 8 are possible"


def _size_problems(node: onnx.NodeProto, roles: dict[str, str], wiring: Wiring) -> Iterator[str]:
    weight = wiring.constant(roles.get("W", ""))
    if weight is None or len(weight.dims) != 2:
        return
    inner, outputs = weight.dims
    for role, size in (("w_scale", outputs), ("bias", outputs), ("gamma", inner), ("beta", inner)):
        tensor = wiring.constant(roles.get(role, ""))
        if tensor is not None and list(tensor.dims) != [size]:
            yield f"input '{role}' of node '{node.name}' has shape {list(tensor.dims)} instead of {[size]}"
    blocks = wiring.constant(roles.get("w_blocks", ""))
    if blocks is None or len(blocks.dims) != 2:
        return
    count = blocks.dims[0]
    if blocks.dims[1] != outputs or not count or inner % count:
        yield f"the {list(blocks.dims)} blocks of node '{node.name}' do not divide its weight {[inner, outputs]}"
        return
    packed = onnx.numpy_helper.to_array(blocks).astype(np.int64)
    codes = onnx.numpy_helper.to_array(weight).astype(np.int64).reshape(count, -1, outputs)
    operand = (packed[:, None] // 16) * (codes - (packed[:, None] % 16 - 8))
    if np.abs(operand).max(initial=0) > _OPERAND_LIMIT:
        yield f"an operand of the weight of node '{node.name}' is beyond {_OPERAND_LIMIT}: wrong codes or blocks"


def _read_back_problems(node: onnx.NodeProto, wiring: Wiring) -> Iterator[str]:
    """A weight of the readable form."""
    scale = wiring.constant(node.input[1])
    if scale is not None:
        problem = _scale(scale, onnx.numpy_helper.to_array(scale))
        if problem is not None:
            yield f"the scale of node '{node.name}' ('{scale.name}') {problem}"


def _weight(tensor: onnx.TensorProto, _values: Values) -> str | None:
    if tensor.data_type not in _WEIGHT_TYPES:
        return f"has type {onnx.TensorProto.DataType.Name(tensor.data_type)}, and weights are INT4 or INT8"
    return None if len(tensor.dims) == 2 else f"has {len(tensor.dims)} axes, and weights have 2"


def _floats(tensor: onnx.TensorProto, values: Values) -> str | None:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return f"has type {onnx.TensorProto.DataType.Name(tensor.data_type)} instead of FLOAT"
    return None if np.isfinite(values).all() else "holds NaN or infinity"


def _scale(tensor: onnx.TensorProto, values: Values) -> str | None:
    return _floats(tensor, values) or (None if (values > 0).all() else "holds a scale that is not positive")


def _blocks(tensor: onnx.TensorProto, values: Values) -> str | None:
    if tensor.data_type != onnx.TensorProto.UINT8 or len(tensor.dims) != 2:
        return "is no table of bytes [blocks, outputs]"
    return None if (values >= 16).all() else "holds a multiple of 0"


def _groups(tensor: onnx.TensorProto, values: Values) -> str | None:
    problem = _floats(tensor, values)
    if problem is None and (values.ndim != 2 or values.shape[1] != _GROUP_COLUMNS or not len(values)):
        problem = f"has shape {list(values.shape)} instead of [groups, {_GROUP_COLUMNS}]"
    if problem is not None:
        return problem
    lower, upper, scale, zero, multiplier, outer = values.T
    if (scale <= 0).any() or (multiplier <= 0).any() or (outer <= 0).any():
        return "holds a scale that is not positive"
    if (zero != np.rint(zero)).any() or (zero < 0).any() or (zero > 255).any():
        return "holds a zero point that is no code"
    return "holds a group whose bounds are in the wrong order" if (lower > upper).any() else None


def _levels(tensor: onnx.TensorProto, values: Values) -> str | None:
    if tensor.data_type != onnx.TensorProto.UINT8 or len(tensor.dims) != 1 or not 1 <= len(values) <= 256:
        return "is no list of 1 to 256 bytes"
    return None if (np.diff(values.astype(int)) >= 0).all() else "holds levels that do not rise with the codes"


_RULES: dict[str, Callable[[onnx.TensorProto, Values], str | None]] = {
    "W": _weight,
    "w_scale": _scale,
    "w_blocks": _blocks,
    "levels": _levels,
    "gamma": _floats,
    "beta": _floats,
}


def _rule(role: str) -> Callable[[onnx.TensorProto, Values], str | None] | None:
    """The rule for an input of an operator by its name; None for activations."""
    return _groups if role.endswith("groups") else _RULES.get(role)
