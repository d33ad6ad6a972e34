// LayerNormalization over the last axis, in two steps: the statistics are kept, because the channel ranges need all
// rows before the first one can be quantized, and normalizing twice is cheaper than storing the result.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void row_stats(const float* x, std::ptrdiff_t ld, int rows, int cols, float epsilon, float* mean,
                         float* rstd) {
  const int full = cols & ~15;
  const int left = cols - full;
  const double count = cols;
  for (int m = 0; m < rows; ++m, x += ld) {
    D16 sum = zero_d(), second = sum;  // two, for an addition waits for the one before
    int c = 0;
    for (; c + 32 <= cols; c += 32) {
      sum = add_d(sum, widen(load(x + c)));
      second = add_d(second, widen(load(x + c + 16)));
    }
    if (c < full) second = add_d(second, widen(load(x + c)));
    sum = add_d(sum, second);
    if (left > 0) sum = add_d(sum, widen(load_n(x + full, left)));
    const double center = reduce_d(sum) / count;

    // Second pass around the mean: E[x^2] - mean^2 would cancel.
    D16 squares = zero_d();
    second = squares;
    for (c = 0; c + 32 <= cols; c += 32) {
      squares = add_square_d(squares, sub_d(widen(load(x + c)), center));
      second = add_square_d(second, sub_d(widen(load(x + c + 16)), center));
    }
    if (c < full) second = add_square_d(second, sub_d(widen(load(x + c)), center));
    double total = reduce_d(add_d(squares, second));
    for (c = full; c < cols; ++c) total += (x[c] - center) * (x[c] - center);
    mean[m] = static_cast<float>(center);
    rstd[m] = static_cast<float>(1.0 / __builtin_sqrt(total / count + static_cast<double>(epsilon)));
  }
}

// gamma, beta and out are padded to 16.
QC_KERNEL void normalize(const float* x, std::ptrdiff_t ld, int rows, int cols, const float* mean, const float* rstd,
                         const float* gamma, const float* beta, float* out, std::ptrdiff_t ld_out) {
  const int full = cols & ~15;
  for (int m = 0; m < rows; ++m, x += ld, out += ld_out) {
    const F16 center = set(mean[m]), scale = set(rstd[m]);
    for (int c = 0; c < full; c += 16) {
      const F16 v = mul(sub(load(x + c), center), scale);
      store(out + c, add(mul(v, load(gamma + c)), load(beta + c)));
    }
    if (full < cols) {
      const F16 v = mul(sub(load_n(x + full, cols - full), center), scale);
      store(out + full, add(mul(v, load(gamma + full)), load(beta + full)));
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
