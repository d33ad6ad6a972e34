"""Function bodies of the qcompiler operators: standard ONNX that runs anywhere and says what the kernels compute.

Every model carries the bodies that it needs. Without the operator library ONNX Runtime runs them; with it the native
kernel of the same name wins. An int4 weight goes straight into a standard operator: it may not be handed to a nested
function.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import onnx
from onnx import parser

from qcompiler.ir import attention_bodies, block_bodies
from qcompiler.ir.generic_bodies import generic_body
from qcompiler.ir.verifier import FUSED_OPS

DOMAIN = "qcompiler"
VERSION = 1
OPSET = 21
_HEAD = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}, "{DOMAIN}" : {VERSION}]>'

# What each function does is told once, here; the arithmetic is qcompiler.quant.groups.
_SORT = """
GroupSort <axis> (X, groups) => (index) {
  three = Constant <value_ints = [-3]> ()
  item_axis = Constant <value_int: int = @axis> ()
  reduced = Sub (three, item_axis)
  minimum = ReduceMin <keepdims = 1> (X, reduced)
  maximum = ReduceMax <keepdims = 1> (X, reduced)
  column_lower = Constant <value_int = 0> ()
  column_upper = Constant <value_int = 1> ()
  lower = Gather <axis = 1> (groups, column_lower)
  upper = Gather <axis = 1> (groups, column_upper)
  last = Constant <value_ints = [-1]> ()
  item_minimum = Unsqueeze (minimum, last)
  item_maximum = Unsqueeze (maximum, last)
  above = Sub (item_maximum, upper)
  below = Sub (item_minimum, lower)
  above_squared = Mul (above, above)
  below_squared = Mul (below, below)
  distance = Add (above_squared, below_squared)
  index = ArgMin <axis = -1, keepdims = 0> (distance)
}"""

_QUANTIZE = """
GroupQuantizeLinear <bits> (X, index, groups) => (codes) {
  column_scale = Constant <value_int = 2> ()
  column_zero = Constant <value_int = 3> ()
  scales = Gather <axis = 1> (groups, column_scale)
  zeros = Gather <axis = 1> (groups, column_zero)
  inverses = Reciprocal (scales)
  inverse = Gather (inverses, index)
  zero_point = Gather (zeros, index)
  scaled = Mul (X, inverse)
  rounded = Round (scaled)
  shifted = Add (rounded, zero_point)
  width = Constant <value_int: int = @bits> ()
  exponent = Cast <to = 1> (width)
  two = Constant <value_float = 2.0> ()
  one = Constant <value_float = 1.0> ()
  count = Pow (two, exponent)
  top = Sub (count, one)
  bottom = Sub (one, one)
  clipped = Clip (shifted, bottom, top)
  codes = Cast <to = 2> (clipped)
}"""

_DEQUANTIZE = """
GroupDequantizeLinear (codes, index, groups) => (Y) {
  operand, outer = qcompiler.GroupOperand (codes, index, groups)
  Y = Mul (operand, outer)
}"""

_OPERAND = """
GroupOperand (codes, index, groups) => (operand, outer) {
  column_zero = Constant <value_int = 3> ()
  column_multiplier = Constant <value_int = 4> ()
  column_outer = Constant <value_int = 5> ()
  zeros = Gather <axis = 1> (groups, column_zero)
  multipliers = Gather <axis = 1> (groups, column_multiplier)
  outers = Gather <axis = 1> (groups, column_outer)
  zero_point = Gather (zeros, index)
  multiplier = Gather (multipliers, index)
  outer = Gather (outers, index)
  q = Cast <to = 1> (codes)
  centred = Sub (q, zero_point)
  operand = Mul (centred, multiplier)
}"""

# Sums are taken in double and rounded once: they do not depend on the order of the additions, so that the kernels and
# these bodies quantize the same numbers. A last bit would flip codes, and the difference would grow with depth.
_ROW_NORM = """
RowNorm <normalize> (X) => (normalized, norm) {
  last = Constant <value_ints = [-1]> ()
  wide = Cast <to = 11> (X)
  squares = Mul (wide, wide)
  mean_square = ReduceMean <keepdims = 1> (squares, last)
  wide_root = Sqrt (mean_square)
  root = Cast <to = 1> (wide_root)
  zero = Constant <value_float = 0.0> ()
  one = Constant <value_float = 1.0> ()
  positive = Greater (root, zero)
  flag = Constant <value_int: int = @normalize> ()
  wanted = Cast <to = 9> (flag)
  applies = And (positive, wanted)
  norm = Where (applies, root, one)
  inverse = Reciprocal (norm)
  normalized = Mul (X, inverse)
}"""

_LAYER_NORM = """
RowLayerNorm <epsilon> (X, gamma, beta) => (Y) {
  last = Constant <value_ints = [-1]> ()
  wide = Cast <to = 11> (X)
  wide_mean = ReduceMean <keepdims = 1> (wide, last)
  deviation = Sub (wide, wide_mean)
  squares = Mul (deviation, deviation)
  variance = ReduceMean <keepdims = 1> (squares, last)
  small = Constant <value_float: float = @epsilon> ()
  wide_small = Cast <to = 11> (small)
  safe_variance = Add (variance, wide_small)
  wide_sigma = Sqrt (safe_variance)
  wide_inverse = Reciprocal (wide_sigma)
  mean = Cast <to = 1> (wide_mean)
  inverse = Cast <to = 1> (wide_inverse)
  centred = Sub (X, mean)
  standard = Mul (centred, inverse)
  scaled = Mul (standard, gamma)
  Y = Add (scaled, beta)
}"""

# erf(x) = sign(x) (1 - 2^(-|x| P(|x|))) and 2^r, with the coefficients of the kernels (runtime_ops/cpu/isa/math.h).
_ERF_COEFFICIENTS = (
    *("4.5358604e-05", "-0.0004455077", "0.0014894418", "0.00077462924"),
    *("-0.02825368", "0.1484816", "0.9184164", "1.6279086"),
)
_EXP2_COEFFICIENTS = ("0.00132647", "0.009671534", "0.05550734", "0.24022242", "0.693147", "1.0")


def _horner(result: str, x: str, coefficients: tuple[str, ...]) -> str:
    """Lines that evaluate a polynomial of the tensor ``x``, highest power first, without fused multiply-add."""
    lines = [f"{result}_0 = Constant <value_float = {coefficients[0]}> ()"]
    for step, coefficient in enumerate(coefficients[1:], 1):
        lines += [
            f"{result}_c{step} = Constant <value_float = {coefficient}> ()",
            f"{result}_m{step} = Mul ({result}_{step - 1}, {x})",
            f"{result}_{step} = Add ({result}_m{step}, {result}_c{step})",
        ]
    return "\n  ".join(lines)


_GELU = f"""
ExactGelu <approximate> (X) => (Y) {{
  half = Constant <value_float = 0.5> ()
  one = Constant <value_float = 1.0> ()
  two = Constant <value_float = 2.0> ()
  zero = Constant <value_float = 0.0> ()
  root_half = Constant <value_float = 0.707106781> ()
  limit = Constant <value_float = 4.0> ()
  x = Mul (X, root_half)
  magnitude = Abs (x)
  a = Min (magnitude, limit)
  {_horner("p", "a", _ERF_COEFFICIENTS)}
  product = Mul (a, p_{len(_ERF_COEFFICIENTS) - 1})
  u = Sub (zero, product)
  n = Round (u)
  r = Sub (u, n)
  {_horner("q", "r", _EXP2_COEFFICIENTS)}
  power = Pow (two, n)
  rest = Mul (q_{len(_EXP2_COEFFICIENTS) - 1}, power)
  size = Sub (one, rest)
  sign = Sign (x)
  erf = Mul (sign, size)
  half_x = Mul (half, X)
  shifted = Add (one, erf)
  exact = Mul (half_x, shifted)
  tanh = Gelu <approximate = "tanh"> (X)
  kind = Constant <value_string: string = @approximate> ()
  none = Constant <value_string = "none"> ()
  is_exact = Equal (kind, none)
  Y = Where (is_exact, exact, tanh)
}}"""

_LINEAR_OPERAND = """
GroupLinearOperand <bits, axis, normalize> (X, groups) => (operand, row_outer) {
  normalized, norm = qcompiler.RowNorm <normalize: int = @normalize> (X)
  index = qcompiler.GroupSort <axis: int = @axis> (normalized, groups)
  codes = qcompiler.GroupQuantizeLinear <bits: int = @bits> (normalized, index, groups)
  operand, outer = qcompiler.GroupOperand (codes, index, groups)
  last = Constant <value_ints = [-1]> ()
  widest = ReduceMax <keepdims = 1> (outer, last)
  row_outer = Mul (widest, norm)
}"""

_GROUP_CALL = "GroupLinearOperand <bits: int = @bits, axis: int = @axis, normalize: int = @normalize>"
_BLOCK_CALL = (
    "BlockTokenOperand <bits: int = @bits, block: int = @block, clip: float = @clip, slack: float = @slack, "
    "shared = 0, rotate: int = @rotate>"
)
# The two families of linear layers: attributes, what makes the operands of the input, and its inputs beside X.
_FAMILIES = {
    "GroupLinear": ("bits, axis, segments, normalize", _GROUP_CALL, ["groups"]),
    "BlockLinear": ("bits, block, clip, slack, rotate", _BLOCK_CALL, []),
}


def _linear(family: str, *, layer_norm: bool = False, gelu: bool = False, residual: bool = False) -> str:
    """The body of one member of a family; an int4 weight is cast before it is handed to another function."""
    attributes, operand, tables = _FAMILIES[family]
    name = ("LayerNorm" if layer_norm else "") + family + ("Gelu" if gelu else "") + ("Add" if residual else "")
    inputs = ["X", *(["gamma", "beta"] if layer_norm else []), "W", "w_scale", "w_blocks", *tables, "bias"]
    inputs += ["residual"] if residual else []
    attributes += (", epsilon" if layer_norm else "") + (", approximate" if gelu else "")
    lines = []
    x = "input" if layer_norm else "X"
    if layer_norm:
        lines.append("input = qcompiler.RowLayerNorm <epsilon: float = @epsilon> (X, gamma, beta)")
    result = "biased" if gelu or residual else "Y"
    lines += [
        f"operand, row_outer = qcompiler.{operand} ({', '.join([x, *tables])})",
        "plain_weight = Cast <to = 1> (W)",
        "weight = qcompiler.WeightOperand (plain_weight, w_blocks)",
        "accumulator = MatMul (operand, weight)",
        "rescaled = Mul (accumulator, row_outer)",
        "scaled = Mul (rescaled, w_scale)",
        f"{result} = Add (scaled, bias)",
    ]
    if gelu:
        lines.append("Y = qcompiler.ExactGelu <approximate: string = @approximate> (biased)")
    if residual:
        # Add before a LayerNormalization becomes ONNX Runtime's SkipLayerNormalization, which adds up in another order.
        lines.append("Y = Sum (biased, residual)")
    body = "\n  ".join(lines)
    return f"\n{name} <{attributes}> ({', '.join(inputs)}) => (Y) {{\n  {body}\n}}"


_SOFTMAX = f"""
RowSoftmax (X) => (Y) {{
  last = Constant <value_ints = [-1]> ()
  top = ReduceMax <keepdims = 1> (X, last)
  below = Sub (X, top)
  bottom = Constant <value_float = -87.0> ()
  x = Max (below, bottom)
  log2_e = Constant <value_float = 1.44269504> ()
  ln2_high = Constant <value_float = 0.693359375> ()
  ln2_low = Constant <value_float = -2.12194440e-4> ()
  two = Constant <value_float = 2.0> ()
  turns = Mul (x, log2_e)
  n = Round (turns)
  n_high = Mul (n, ln2_high)
  n_low = Mul (n, ln2_low)
  near = Sub (x, n_high)
  rest = Sub (near, n_low)
  r = Mul (rest, log2_e)
  {_horner("q", "r", _EXP2_COEFFICIENTS)}
  power = Pow (two, n)
  e = Mul (q_{len(_EXP2_COEFFICIENTS) - 1}, power)
  wide = Cast <to = 11> (e)
  sum = ReduceSum <keepdims = 1> (wide, last)
  wide_factor = Reciprocal (sum)
  factor = Cast <to = 1> (wide_factor)
  Y = Mul (e, factor)
}}"""


_SOURCES: dict[str, str] = {
    "GroupSort": _SORT,
    "GroupQuantizeLinear": _QUANTIZE,
    "GroupOperand": _OPERAND,
    "GroupDequantizeLinear": _DEQUANTIZE,
    "RowNorm": _ROW_NORM,
    "RowLayerNorm": _LAYER_NORM,
    "ExactGelu": _GELU,
    "RowSoftmax": _SOFTMAX,
    "GroupLinearOperand": _LINEAR_OPERAND,
    "WeightOperand": block_bodies.WEIGHT_OPERAND,
    "GroupLinear": _linear("GroupLinear"),
    "GroupLinearGelu": _linear("GroupLinear", gelu=True),
    "GroupLinearAdd": _linear("GroupLinear", residual=True),
    "LayerNormGroupLinear": _linear("GroupLinear", layer_norm=True),
    "LayerNormGroupLinearGelu": _linear("GroupLinear", layer_norm=True, gelu=True),
    "RowRotate": block_bodies.ROW_ROTATE,
    "BlockQuantizeLinear": block_bodies.BLOCK_QUANTIZE,
    "BlockOperand": block_bodies.BLOCK_OPERAND,
    "BlockDequantizeLinear": block_bodies.BLOCK_DEQUANTIZE,
    "BlockTokenOperand": block_bodies.BLOCK_TOKEN_OPERAND,
    "BlockLinear": _linear("BlockLinear"),
    "BlockLinearGelu": _linear("BlockLinear", gelu=True),
    "BlockLinearAdd": _linear("BlockLinear", residual=True),
    "LayerNormBlockLinear": _linear("BlockLinear", layer_norm=True),
    "LayerNormBlockLinearGelu": _linear("BlockLinear", layer_norm=True, gelu=True),
    "GroupAttentionOperand": attention_bodies.GROUP_ATTENTION_OPERAND,
    "GroupProbabilityOperand": attention_bodies.PROBABILITY_OPERAND,
    "GroupAttention": attention_bodies.attention("GroupAttention"),
    "GroupAttentionBias": attention_bodies.attention("GroupAttention", bias=True),
    "BlockAttention": attention_bodies.attention("BlockAttention"),
    "BlockAttentionBias": attention_bodies.attention("BlockAttention", bias=True),
}

OPERATORS = tuple(_SOURCES)
FLOAT32, FLOAT16 = "float32", "float16"


@cache
def function(name: str, activations: str = FLOAT32) -> onnx.FunctionProto:
    """The function body of one operator; treat it as read-only.

    Args:
        name: The operator.
        activations: ``float32``, or ``float16`` for the body that files of float16 activations carry: that of a fused
            operator then takes both.
    """
    body = parser.parse_function(_HEAD + _SOURCES[name])
    return generic_body(body) if activations == FLOAT16 and name in FUSED_OPS else body


def functions_for(names: Iterable[str], activations: str = FLOAT32) -> list[onnx.FunctionProto]:
    """Bodies of the operators ``names`` and of everything that they call, in a fixed order; see :func:`function`."""
    wanted: set[str] = set()
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += [node.op_type for node in function(name).node if node.domain == DOMAIN]
    return [function(name, activations) for name in OPERATORS if name in wanted]
