"""Function bodies of block multiples: weights in blocks of input channels, activations in blocks of a token."""

# One byte per block of input channels and output, multiplier * 16 + zero_point + 8; floats split it exactly.
WEIGHT_OPERAND = """
WeightOperand (weight, w_blocks) => (operand) {
  sixteen = Constant <value_float = 16.0> ()
  eight = Constant <value_float = 8.0> ()
  byte = Cast <to = 1> (w_blocks)
  sixteenths = Div (byte, sixteen)
  multiplier = Floor (sixteenths)
  high = Mul (multiplier, sixteen)
  low = Sub (byte, high)
  zero_point = Sub (low, eight)
  block_count = Shape <start = 0, end = 1> (w_blocks)
  outputs = Shape <start = 1, end = 2> (w_blocks)
  rest = Constant <value_ints = [-1]> ()
  block_shape = Concat <axis = 0> (block_count, rest, outputs)
  blocks = Reshape (weight, block_shape)
  inner = Constant <value_ints = [1]> ()
  block_multiplier = Unsqueeze (multiplier, inner)
  block_zero = Unsqueeze (zero_point, inner)
  centred = Sub (blocks, block_zero)
  multiplied = Mul (centred, block_multiplier)
  bottom = Constant <value_float = -127.0> ()
  top = Constant <value_float = 127.0> ()
  clipped = Clip (multiplied, bottom, top)
  shape = Shape (weight)
  operand = Reshape (clipped, shape)
}"""

# Walsh-Hadamard transform of every `rotate` neighbouring channels, not normalised: log2(rotate) stages of sums and
# differences of neighbours, of neighbouring pairs, of neighbouring fours. Attributes do not reach into a loop's body,
# but they count its rounds.
ROW_ROTATE = """
RowRotate <rotate> (X) => (Y) {
  sizes = Constant <value_ints = [2, 4, 8, 16, 32, 64, 128]> ()
  size = Constant <value_int: int = @rotate> ()
  reached = LessOrEqual (sizes, size)
  counted = Cast <to = 7> (reached)
  rounds = ReduceSum <keepdims = 0> (counted)
  always = Constant <value = bool {1}> ()
  neighbours = Constant <value_ints = [1]> ()
  rotated, last_half = Loop (rounds, always, X, neighbours) <body = stage
    (int64 number, bool goes_on, float[] x, int64[1] half) => (bool go_on, float[] y, int64[1] next_half) {
      go_on = Identity (goes_on)
      rest = Constant <value_ints = [-1]> ()
      two = Constant <value_ints = [2]> ()
      pair_shape = Concat <axis = 0> (rest, two, half)
      pairs = Reshape (x, pair_shape)
      low, high = Split <axis = 1, num_outputs = 2> (pairs)
      sums = Add (low, high)
      differences = Sub (low, high)
      y = Concat <axis = 1> (sums, differences)
      next_half = Mul (half, two)
    }>
  shape = Shape (X)
  Y = Reshape (rotated, shape)
}"""

# The outer scale of a token makes its largest magnitude what the largest multiplier can still code; the step of a block
# is a small integer multiple of it. With shared = 1 all tokens of an instance have the scale of the largest of them.
# ONNX Runtime divides by d where Mul follows 1 / d directly, which rounds differently: an Unsqueeze stands in between,
# after every 1 / d.
BLOCK_QUANTIZE = """
BlockQuantizeLinear <bits, block, clip, slack, shared, rotate> (X) => (codes, multiplier, zero_point, scale) {
  rotated = qcompiler.RowRotate <rotate: int = @rotate> (X)
  zero = Constant <value_float = 0.0> ()
  one = Constant <value_float = 1.0> ()
  two = Constant <value_float = 2.0> ()
  limit = Constant <value_float = 127.0> ()
  last = Constant <value_ints = [-1]> ()
  width = Constant <value_int: int = @bits> ()
  exponent = Cast <to = 1> (width)
  count = Pow (two, exponent)
  top = Sub (count, one)
  half_count = Div (count, two)
  quotient = Div (limit, half_count)
  largest = Floor (quotient)
  reach = Mul (largest, half_count)
  flag = Constant <value_int: int = @shared> ()
  first = Constant <value_ints = [0]> ()
  axis_flag = Unsqueeze (flag, first)
  unit = Constant <value_ints = [1]> ()
  axis_count = Add (axis_flag, unit)
  last_axes = Constant <value_ints = [-1, -2]> ()
  axes = Slice (last_axes, first, axis_count)
  magnitude = Abs (rotated)
  peak = ReduceMax <keepdims = 1> (magnitude, axes)
  smallest = Constant <value_float = 1e-30> ()
  counts = Greater (peak, smallest)
  full = Div (peak, reach)
  scale = Where (counts, full, one)
  inverse_scale = Div (one, scale)
  leading = Shape <start = 0, end = -1> (X)
  size = Constant <value_int: int = @block> ()
  block_size = Unsqueeze (size, first)
  block_shape = Concat <axis = 0> (leading, last, block_size)
  cut = Reshape (rotated, block_shape)
  factor = Unsqueeze (inverse_scale, last)
  blocks = Mul (cut, factor)
  minimum = ReduceMin <keepdims = 0> (blocks, last)
  maximum = ReduceMax <keepdims = 0> (blocks, last)
  below = Min (minimum, zero)
  above = Max (maximum, zero)
  ratio = Constant <value_float: float = @clip> ()
  low = Mul (below, ratio)
  high = Mul (above, ratio)
  range = Sub (high, low)
  top_part = Div (one, top)
  inverse_top = Unsqueeze (top_part, first)
  wanted = Mul (range, inverse_top)
  spare = Constant <value_float: float = @slack> ()
  needed = Sub (wanted, spare)
  whole = Ceil (needed)
  multiplier = Clip (whole, one, largest)
  inverse = Div (one, multiplier)
  block_inverse = Unsqueeze (inverse, last)
  depth = Neg (low)
  block_depth = Unsqueeze (depth, last)
  steps = Mul (block_depth, block_inverse)
  whole_steps = Round (steps)
  block_zero = Clip (whole_steps, zero, top)
  zero_point = Squeeze (block_zero, last)
  scaled = Mul (blocks, block_inverse)
  rounded = Round (scaled)
  shifted = Add (rounded, block_zero)
  clipped = Clip (shifted, zero, top)
  shape = Shape (X)
  flat = Reshape (clipped, shape)
  codes = Cast <to = 2> (flat)
}"""

BLOCK_OPERAND = """
BlockOperand (codes, multiplier, zero_point) => (operand) {
  counts = Shape (multiplier)
  last = Constant <value_ints = [-1]> ()
  block_shape = Concat <axis = 0> (counts, last)
  q = Cast <to = 1> (codes)
  blocks = Reshape (q, block_shape)
  block_multiplier = Unsqueeze (multiplier, last)
  block_zero = Unsqueeze (zero_point, last)
  centred = Sub (blocks, block_zero)
  multiplied = Mul (centred, block_multiplier)
  bottom = Constant <value_float = -127.0> ()
  top = Constant <value_float = 127.0> ()
  clipped = Clip (multiplied, bottom, top)
  shape = Shape (codes)
  operand = Reshape (clipped, shape)
}"""

BLOCK_DEQUANTIZE = """
BlockDequantizeLinear (codes, multiplier, zero_point, scale) => (Y) {
  operand = qcompiler.BlockOperand (codes, multiplier, zero_point)
  Y = Mul (operand, scale)
}"""

BLOCK_TOKEN_OPERAND = """
BlockTokenOperand <bits, block, clip, slack, shared, rotate> (X) => (operand, outer) {
  codes, multiplier, zero_point, outer = qcompiler.BlockQuantizeLinear
    <bits: int = @bits, block: int = @block, clip: float = @clip, slack: float = @slack, shared: int = @shared,
     rotate: int = @rotate> (X)
  operand = qcompiler.BlockOperand (codes, multiplier, zero_point)
}"""
