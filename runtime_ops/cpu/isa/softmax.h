// Scores and softmax of one block of attention rows, which stays in the first-level cache between the steps.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void scores(const Scores& s) {
  for (int m = 0; m < s.rows; ++m) {
    std::int32_t* const row = s.acc + m * s.ld_acc;
    const float* const bias = s.bias != nullptr ? s.bias + m * s.ld_bias : nullptr;
    const I16 zero = set_i(s.zero[m]);
    const F16 row_scale = set(s.row_scale[m]);
    for (int n = 0; n < s.cols; n += 16) {
      const I16 acc = sub_i(load_i(row + n), mul_i(zero, load_i(s.column_sum + n)));
      F16 v = mul(mul(to_float(acc), row_scale), load(s.col_scale + n));
      if (bias != nullptr) v = add(v, s.cols - n < 16 ? load_n(bias + n, s.cols - n) : load(bias + n));
      // The accumulators are not needed any more: the float scores take their place.
      store(reinterpret_cast<float*>(row) + n, v);
    }
  }
}

// x - its largest among the first `cols`, in every row; whole vectors.
QC_INLINE void subtract_peaks(float* x, std::ptrdiff_t ld, int rows, int cols) {
  const int full = cols & ~15;
  const F16 nothing = set(-__builtin_inff());
  for (int m = 0; m < rows; ++m, x += ld) {
    F16 top[4] = {nothing, nothing, nothing, nothing};  // four, for a maximum waits for the one before
    int c = 0;
    for (; c + 64 <= full; c += 64) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) top[i] = max(top[i], load(x + c + 16 * i));
    }
    for (; c < full; c += 16) top[0] = max(top[0], load(x + c));
    if (full < cols) top[1] = max(top[1], keep_n(load(x + full), cols - full, nothing));
    const F16 peak = set(reduce_max(max(max(top[0], top[1]), max(top[2], top[3]))));
    for (int n = 0; n < cols; n += 16) store(x + n, sub(load(x + n), peak));
  }
}

// `count` is a multiple of 16.
QC_INLINE void exponentials(float* x, std::ptrdiff_t count) {
  std::ptrdiff_t n = 0;
  for (; n + kWide <= count; n += kWide) store(x + n, exp(load_floats<kAbreast>(x + n)));
  for (; n < count; n += 16) store(x + n, exp(load_floats<1>(x + n)));
}

QC_KERNEL void softmax(float* x, std::ptrdiff_t ld, int rows, int cols, float* lower, float* upper) {
  const int full = cols & ~15;
  const int left = cols - full;
  const int padded = (cols + 15) & ~15;
  subtract_peaks(x, ld, rows, cols);
  if (ld == padded) {
    exponentials(x, rows * ld);
  } else {
    for (int m = 0; m < rows; ++m) exponentials(x + m * ld, padded);
  }
  for (int m = 0; m < rows; ++m, x += ld) {
    D16 sum = zero_d(), second = sum;
    F16 low = set(1.0f), high = set(0.0f), other_low = low, other_high = high;
    int c = 0;
    for (; c + 32 <= full; c += 32) {
      const F16 e = load(x + c), f = load(x + c + 16);
      sum = add_d(sum, widen(e));
      second = add_d(second, widen(f));
      low = min(low, e);
      other_low = min(other_low, f);
      high = max(high, e);
      other_high = max(other_high, f);
    }
    if (c < full) {
      const F16 e = load(x + c);
      second = add_d(second, widen(e));
      other_low = min(other_low, e);
      other_high = max(other_high, e);
    }
    low = min(low, other_low);
    high = max(high, other_high);
    if (left > 0) {
      const F16 e = load(x + full);
      sum = add_d(sum, widen(keep_n(e, left, set(0.0f))));
      low = min(low, keep_n(e, left, low));
      high = max(high, keep_n(e, left, high));
    }

    // Multiplying keeps the order, so the range of the row is the scaled range of the exponentials.
    const float factor = static_cast<float>(1.0 / reduce_d(add_d(sum, second)));
    const F16 factor16 = set(factor);
    for (int n = 0; n < cols; n += 16) store(x + n, mul(load(x + n), factor16));
    lower[m] = reduce_min(low) * factor;
    upper[m] = reduce_max(high) * factor;
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
