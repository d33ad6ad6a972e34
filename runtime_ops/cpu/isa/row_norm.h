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
    D16 squares = zero_d();
    for (int c = 0; c < full; c += 16) squares = add_square_d(squares, widen(load(x + c)));
    if (left > 0) squares = add_square_d(squares, widen(load_n(x + full, left)));
    const float root = static_cast<float>(__builtin_sqrt(reduce_d(squares) / cols));
    norm[m] = root > 0.0f ? root : 1.0f;
    const F16 inverse = set(1.0f / norm[m]);
    for (int c = 0; c < full; c += 16) store(out + c, mul(load(x + c), inverse));
    if (left > 0) store(out + full, mul(load_n(x + full, left), inverse));
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
