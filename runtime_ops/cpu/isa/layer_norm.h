// LayerNormalization over the last axis, in two steps: the statistics are kept, because the channel ranges need all
// rows before the first one can be quantized, and normalizing twice is cheaper than storing the result.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void row_stats(const float* x, std::ptrdiff_t ld, int rows, int cols, float epsilon, float* mean,
                         float* rstd) {
  const int full = cols & ~15;
  const float count = static_cast<float>(cols);
  for (int m = 0; m < rows; ++m, x += ld) {
    F16 s0 = set(0.0f), s1 = set(0.0f);
    int c = 0;
    for (; c + 32 <= full; c += 32) {
      s0 = add(s0, load(x + c));
      s1 = add(s1, load(x + c + 16));
    }
    if (c < full) s0 = add(s0, load(x + c));
    if (full < cols) s1 = add(s1, load_n(x + full, cols - full));
    const float center = reduce_add(add(s0, s1)) / count;

    // Second pass around the mean: E[x^2] - mean^2 would cancel.
    const F16 center16 = set(center);
    s0 = set(0.0f);
    s1 = set(0.0f);
    for (c = 0; c + 32 <= full; c += 32) {
      const F16 d0 = sub(load(x + c), center16);
      const F16 d1 = sub(load(x + c + 16), center16);
      s0 = fma(d0, d0, s0);
      s1 = fma(d1, d1, s1);
    }
    if (c < full) {
      const F16 d = sub(load(x + c), center16);
      s0 = fma(d, d, s0);
    }
    if (full < cols) {
      const F16 d = keep_n(sub(load_n(x + full, cols - full), center16), cols - full, set(0.0f));
      s1 = fma(d, d, s1);
    }
    mean[m] = center;
    rstd[m] = 1.0f / __builtin_sqrtf(reduce_add(add(s0, s1)) / count + epsilon);
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
