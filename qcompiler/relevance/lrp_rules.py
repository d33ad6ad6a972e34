"""The rule of each operator for layer-wise relevance propagation.

Linear layers, convolutions and products of activations split relevance among their terms, sums among their operands;
normalisations, activations and scalings pass it on as it is, and what only moves elements moves it back. What changes
the size of maps (pooling, resizing, transposed convolutions) spreads an image's relevance over its input. Constants
(biases, scales, position embeddings) receive no relevance:

* a constant along all axes but one, like the bias of a linear layer, is ignored: the variable operand gets everything;
* a constant that differs from place to place, like a position embedding or a bias of attention scores, is an operand
  like any other, and its share leaves the sum.

What is conserved, then: the signed sum over a cut of the graph, but for those shares, for padding, for products of
activations that cancel, and for denominators of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx

from qcompiler.quant.groups import F32
from qcompiler.relevance import lrp_moves as moves
from qcompiler.relevance.lrp_conv import conv
from qcompiler.relevance.lrp_shares import mean_shares, product_shares, ratio, sum_shares, sum_to
from qcompiler.relevance.lrp_visit import Back, Reading, Rule, Visit


def rule_of(node: onnx.NodeProto) -> Rule:
    """The rule of a node's operator, :func:`unknown` for those not in the table."""
    standard = node.domain in ("", "ai.onnx")
    return (_TABLE.get(node.op_type) if standard else None) or Rule(unknown)


def unknown(visit: Visit) -> Sequence[F32 | None]:
    """Identity to the only variable input, if it has the shape of the result.

    Raises:
        UnsupportedModelError: Several variable inputs, or another shape.
    """
    variables = _variables(visit.inputs)
    if len(variables) != 1 or visit.input(variables[0]).shape != visit.outputs[0]:
        raise visit.refusal()
    return _only(variables[0], visit.relevance)


def matmul(visit: Visit) -> Sequence[F32 | None]:
    """A linear layer where one operand is constant, else a product of activations."""
    a, b = visit.value(0), visit.value(1)
    relevance = visit.relevance
    if a.ndim == 1:
        a, relevance = a[None, :], np.expand_dims(relevance, -1 if b.ndim == 1 else -2)
    if b.ndim == 1:
        b, relevance = b[:, None], np.expand_dims(relevance, -1)
    return [
        None if found is None or item is None else found.reshape(item.shape)
        for found, item in zip(_matrices(visit, a, b, relevance), visit.inputs, strict=True)
    ]


def gemm(visit: Visit) -> Sequence[F32 | None]:
    """As :func:`matmul`; the constant added is ignored."""
    if len(visit.inputs) > 2 and visit.inputs[2] is not None and visit.inputs[2].variable:
        raise visit.refusal("that adds a computed tensor")
    a, b = visit.value(0), visit.value(1)
    turn_a, turn_b = visit.attribute("transA", 0), visit.attribute("transB", 0)
    factor = np.float32(visit.attribute("alpha", 1.0))  # its sign decides which terms are positive
    found = _matrices(visit, (a.T if turn_a else a) * factor, b.T if turn_b else b, visit.relevance)
    return [item if item is None or not turn else item.T for item, turn in zip(found, (turn_a, turn_b), strict=True)]


def _matrices(visit: Visit, a: F32, b: F32, relevance: F32) -> tuple[F32 | None, F32 | None]:
    if not visit.input(1).variable:
        if b.ndim == 2:  # one product of matrices instead of one per image or window
            rows = visit.linear(a.reshape(-1, a.shape[-1]), b, relevance.reshape(-1, relevance.shape[-1]))
            return rows.reshape(a.shape), None
        return sum_to(visit.linear(a, b, relevance), a.shape), None
    if not visit.input(0).variable:
        turned = visit.linear(b.swapaxes(-1, -2), a.swapaxes(-1, -2), relevance.swapaxes(-1, -2))
        return None, sum_to(turned.swapaxes(-1, -2), b.shape)
    return product_shares(a, b, relevance)


def add(visit: Visit) -> Sequence[F32 | None]:
    """Add, Sub, Sum: split by magnitude (the sign of an operand has no part in that), see the module's text."""
    variables = _variables(visit.inputs)
    taking = _operands(visit.inputs)
    if len(taking) == 1:
        return _only(variables[0], sum_to(visit.relevance, visit.input(variables[0]).shape))
    found: list[F32 | None] = [None] * len(visit.inputs)
    shares = sum_shares([visit.value(index) for index in taking], visit.relevance)
    for index, share in zip(taking, shares, strict=True):
        found[index] = share
    return found


def multiply(visit: Visit) -> Sequence[F32 | None]:
    """A scaling is the identity; of an elementwise product of activations both get one half."""
    variables = _variables(visit.inputs)
    part = visit.relevance / np.float32(len(variables))
    return [sum_to(part, item.shape) if item is not None and item.variable else None for item in visit.inputs]


def divide(visit: Visit) -> Sequence[F32 | None]:
    """To the numerator: a denominator that is computed normalises. To the denominator under a constant."""
    index = 0 if visit.input(0).variable else 1
    return _only(index, sum_to(visit.relevance, visit.input(index).shape))


def reduce_mean(visit: Visit) -> Sequence[F32 | None]:
    """Mean or sum over axes."""
    shape = visit.input(0).shape
    axes = visit.ints("axes", 1)
    if not axes and visit.attribute("noop_with_empty_axes", 0):
        return [visit.relevance]
    return _reduced(visit, tuple(axis % len(shape) for axis in axes or range(len(shape))))


def global_average_pool(visit: Visit) -> Sequence[F32 | None]:
    """Mean over all places."""
    return _reduced(visit, tuple(range(2, len(visit.input(0).shape))))


def spread(visit: Visit) -> Sequence[F32 | None]:
    """All relevance of an image to its elements by magnitude: for what is no layer and changes the size of maps."""
    return [_spread(visit, 0, visit.relevance)]


def einsum(visit: Visit) -> Sequence[F32 | None]:
    """As :func:`spread`, in equal parts to the computed operands; the first axis of all of them tells the images."""
    variables = _variables(visit.inputs)
    if any(visit.input(index).shape[0] != visit.outputs[0][0] for index in variables):
        raise visit.refusal("over the first axis of an operand")
    part = visit.relevance / np.float32(len(variables))
    return [_spread(visit, index, part) if index in variables else None for index in range(len(visit.inputs))]


def _spread(visit: Visit, index: int, relevance: F32) -> F32:
    x = np.abs(visit.value(index))
    axes = tuple(range(1, x.ndim))
    total = relevance.sum(axis=tuple(range(1, relevance.ndim))).reshape(-1, *[1] * len(axes))
    return x * ratio(total, x.sum(axis=axes, keepdims=True))


def _reduced(visit: Visit, axes: tuple[int, ...]) -> Sequence[F32 | None]:
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(visit.input(0).shape))
    return [mean_shares(visit.value(0), axes, visit.relevance.reshape(kept))]


def _variables(inputs: Sequence[Reading | None]) -> list[int]:
    return [index for index, item in enumerate(inputs) if item is not None and item.variable]


def _operands(inputs: Sequence[Reading | None]) -> list[int]:
    """The inputs of a sum that take part: all but constants along all axes but one."""
    return [
        index
        for index, item in enumerate(inputs)
        if item is not None and (item.variable or sum(size > 1 for size in item.shape) > 1)
    ]


def _summed(inputs: Sequence[Reading | None]) -> Sequence[int]:
    operands = _operands(inputs)
    return operands if len(operands) > 1 else ()


def _first(count: int) -> Callable[[Sequence[Reading | None]], Sequence[int]]:
    return lambda _inputs: range(count)


def _only(index: int, relevance: F32) -> Sequence[F32 | None]:
    return [*[None] * index, relevance]


_PASSED_ON: tuple[str, ...] = (
    "LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "Gelu", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Elu", "Selu", "Erf", "Clip",
    "Softmax", "LogSoftmax", "Identity", "Dropout", "Cast",
)  # fmt: skip


def _pass_on(visit: Visit) -> Sequence[F32 | None]:
    return [visit.relevance]


_MOVES: Mapping[str, Back] = MappingProxyType({
    "Reshape": moves.reshape,
    "Flatten": moves.reshape,
    "Squeeze": moves.reshape,
    "Unsqueeze": moves.reshape,
    "Transpose": moves.transpose,
    "DepthToSpace": moves.depth_to_space,
    "SpaceToDepth": moves.space_to_depth,
    "Split": moves.split,
    "Concat": moves.concat,
    "Slice": moves.slice_,
    "Gather": moves.gather,
    "Pad": moves.pad,
    "Expand": moves.expand,
})  # fmt: skip

_RESIZING = (
    "Resize", "MaxPool", "AveragePool", "GlobalMaxPool", "ConvTranspose", "ReduceMax", "ReduceMin", "ReduceL2",
)  # fmt: skip

_TABLE: Mapping[str, Rule] = MappingProxyType({
    **{op: Rule(spread, _first(1)) for op in _RESIZING},
    **{op: Rule(_pass_on) for op in _PASSED_ON},
    **{op: Rule(back) for op, back in _MOVES.items()},
    "MatMul": Rule(matmul, _first(2)),
    "Einsum": Rule(einsum, lambda inputs: range(len(inputs))),
    "Gemm": Rule(gemm, _first(2)),
    "Conv": Rule(conv, _first(2)),
    "Add": Rule(add, _summed),
    "Sub": Rule(add, _summed),
    "Sum": Rule(add, _summed),
    "Mul": Rule(multiply),
    "Div": Rule(divide),
    "ReduceMean": Rule(reduce_mean, _first(1)),
    "ReduceSum": Rule(reduce_mean, _first(1)),
    "GlobalAveragePool": Rule(global_average_pool, _first(1)),
})  # fmt: skip
