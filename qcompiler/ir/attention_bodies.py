"""Function bodies of attention: one text for its two families, which differ in how q, k and v become operands."""

GROUP_ATTENTION_OPERAND = """
GroupAttentionOperand <bits, axis> (X, groups) => (operand, outer) {
  index = qcompiler.GroupSort <axis: int = @axis> (X, groups)
  codes = qcompiler.GroupQuantizeLinear <bits: int = @bits> (X, index, groups)
  unbounded, outer = qcompiler.GroupOperand (codes, index, groups)
  bottom = Constant <value_float = -127.0> ()
  top = Constant <value_float = 127.0> ()
  operand = Clip (unbounded, bottom, top)
}"""

PROBABILITY_OPERAND = """
GroupProbabilityOperand (P, groups, levels) => (operand, outer) {
  index = qcompiler.GroupSort <axis = -2> (P, groups)
  column_scale = Constant <value_int = 2> ()
  column_outer = Constant <value_int = 5> ()
  scales = Gather <axis = 1> (groups, column_scale)
  outers = Gather <axis = 1> (groups, column_outer)
  inverses = Reciprocal (scales)
  inverse = Gather (inverses, index)
  outer = Gather (outers, index)
  scaled = Mul (P, inverse)
  rounded = Round (scaled)
  count = Size (levels)
  count_float = Cast <to = 1> (count)
  one = Constant <value_float = 1.0> ()
  top = Sub (count_float, one)
  bottom = Sub (one, one)
  clipped = Clip (rounded, bottom, top)
  level = Cast <to = 7> (clipped)
  code = Gather (levels, level)
  operand = Cast <to = 1> (code)
}"""

_GROUP_OPERANDS = """
  q_operand, q_outer = qcompiler.GroupAttentionOperand <bits: int = @bits, axis = -2> (q, q_groups)
  k_operand, k_outer = qcompiler.GroupAttentionOperand <bits: int = @bits, axis = -2> (k, k_groups)
  v_operand, v_outer = qcompiler.GroupAttentionOperand <bits: int = @bits, axis = -1> (v, v_groups)"""


def _block_operand(bits: str, shared: int) -> str:
    attributes = f"bits: int = @{bits}, block: int = @block, clip: float = @clip, slack: float = @slack"
    return f"qcompiler.BlockTokenOperand <{attributes}, shared = {shared}, rotate = 1>"


# The product with v sums over its tokens, so that they must share one scale.
_BLOCK_OPERANDS = f"""
  q_operand, q_outer = {_block_operand("qk_bits", 0)} (q)
  k_operand, k_outer = {_block_operand("qk_bits", 0)} (k)
  v_operand, v_outer = {_block_operand("v_bits", 1)} (v)"""

# Of each family: attributes, the tables of q, k and v, and what makes their operands.
_FAMILIES = {
    "GroupAttention": ("bits", "q_groups, k_groups, v_groups, ", _GROUP_OPERANDS),
    "BlockAttention": ("qk_bits, v_bits, block, clip, slack", "", _BLOCK_OPERANDS),
}

_BIAS = """
  bias_shape = Shape <start = 0, end = 1> (bias)
  inner_shape = Shape <start = 1> (scores)
  free = Constant <value_ints = [-1]> ()
  window_shape = Concat <axis = 0> (free, bias_shape, inner_shape)
  windows = Reshape (scores, window_shape)
  biased = Add (windows, bias)
  score_shape = Shape (scores)
  masked = Reshape (biased, score_shape)"""


def attention(family: str, *, bias: bool = False) -> str:
    """The body of one member of a family; with a bias, row b of the batch takes window ``b % windows`` of it."""
    attributes, tables, operands = _FAMILIES[family]
    inputs = f"QKV, {tables}p_groups, levels" + (", bias" if bias else "")
    return f"""
{family + ("Bias" if bias else "")} <num_heads, scale, {attributes}> ({inputs}) => (Y) {{
  q3, k3, v3 = Split <axis = -1, num_outputs = 3> (QKV)
  heads = Constant <value_int: int = @num_heads> ()
  keep = Constant <value_ints = [0, 0]> ()
  rest = Constant <value_ints = [-1]> ()
  first = Constant <value_ints = [0]> ()
  heads_vector = Unsqueeze (heads, first)
  head_shape = Concat <axis = 0> (keep, heads_vector, rest)
  q4 = Reshape (q3, head_shape)
  k4 = Reshape (k3, head_shape)
  v4 = Reshape (v3, head_shape)
  q = Transpose <perm = [0, 2, 1, 3]> (q4)
  k = Transpose <perm = [0, 2, 1, 3]> (k4)
  v = Transpose <perm = [0, 2, 1, 3]> (v4){operands}
  k_transposed = Transpose <perm = [0, 1, 3, 2]> (k_operand)
  k_columns = Transpose <perm = [0, 1, 3, 2]> (k_outer)
  score_accumulator = MatMul (q_operand, k_transposed)
  factor = Constant <value_float: float = @scale> ()
  q_factor = Mul (q_outer, factor)
  score_rows = Mul (score_accumulator, q_factor)
  scores = Mul (score_rows, k_columns){_BIAS if bias else ""}
  probabilities = qcompiler.RowSoftmax ({"masked" if bias else "scores"})
  p_operand, p_outer = qcompiler.GroupProbabilityOperand (probabilities, p_groups, levels)
  accumulator = MatMul (p_operand, v_operand)
  rows = Mul (accumulator, p_outer)
  heads_out = Mul (rows, v_outer)
  tokens = Transpose <perm = [0, 2, 1, 3]> (heads_out)
  joined = Constant <value_ints = [0, 0, -1]> ()
  Y = Reshape (tokens, joined)
}}"""
