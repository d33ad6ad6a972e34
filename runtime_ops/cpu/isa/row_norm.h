// Root mean square of rows, and rows divided by it: the per-token outer scale of a linear layer's input.

namespace qcompiler {
namespace cpu {
namespace {

// norm[m] = sqrt(mean(x[m]^2)), 1 for rows of zeros; out = x * (1 / norm). `out` may be `x` with the same stride; it is
// writable up to a multiple of 16.
QC_KERNEL void row_norm(const float* x, std::ptrdiff_t ld, int rows, int cols, float* norm, float* out,
                        std::ptrdiff_t ld_out) {
  const int full = cols & ~15;
  const int left = cols - full;
  for (int m = 0; m < rows; ++m, x += ld, out += ld_out) {
    F16 s0 = set(0.0f), s1 = set(0.0f);
    int c = 0;
    for (; c + 32 <= full; c += 32) {
      const F16 v0 = load(x + c), v1 = load(x + c + 16);
      s0 = fma(v0, v0, s0);
      s1 = fma(v1, v1, s1);
    }
    if (c < full) {
      const F16 v = load(x + c);
      s0 = fma(v, v, s0);
    }
    if (left > 0) {
      const F16 v = load_n(x + full, left);
      s1 = fma(v, v, s1);
    }
    const float root = __builtin_sqrtf(reduce_add(add(s0, s1)) / static_cast<float>(cols));
    norm[m] = root > 0.0f ? root : 1.0f;
    const F16 inverse = set(1.0f / norm[m]);
    for (c = 0; c < full; c += 16) store(out + c, mul(load(x + c), inverse));
    if (left > 0) store(out + full, mul(load_n(x + full, left), inverse));
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
