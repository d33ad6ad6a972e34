// Rows in the rotated basis: sets of neighbouring channels as their Walsh-Hadamard transforms.

namespace qcompiler {
namespace cpu {
namespace {

// The stages inside one vector.
QC_INLINE F16 rotate_lanes(F16 x, int size) {
  if (size > 1) x = butterfly<1>(x);
  if (size > 2) x = butterfly<2>(x);
  if (size > 4) x = butterfly<4>(x);
  if (size > 8) x = butterfly<8>(x);
  return x;
}

// Sets of 16 kN channels, which stay in registers.
template <int kN>
QC_INLINE void rotate_sets(const float* x, int cols, float* out) {
  for (int c = 0; c < cols; c += 16 * kN) {
    F16 v[kN];
#pragma GCC unroll 4
    for (int i = 0; i < kN; ++i) v[i] = rotate_lanes(load(x + c + 16 * i), 16);
#pragma GCC unroll 2
    for (int half = 1; half < kN; half *= 2) {
#pragma GCC unroll 4
      for (int i = 0; i < kN; ++i) {
        if ((i & half) != 0) continue;
        const F16 low = v[i], high = v[i + half];
        v[i] = add(low, high);
        v[i + half] = sub(low, high);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kN; ++i) store(out + c + 16 * i, v[i]);
  }
}

// Sets of any size: those of more than a vector stage by stage. Lanes behind the last channel are loaded as zero: no
// set reaches from them to a channel.
QC_INLINE void rotate_row(const float* x, int cols, int size, float* out) {
  const int full = cols & ~15;
  const int left = cols - full;
  for (int c = 0; c < full; c += 16) store(out + c, rotate_lanes(load(x + c), size));
  if (left > 0) store(out + full, rotate_lanes(load_n(x + full, left), size));
  for (int half = 16; half < size; half *= 2) {
    for (int c = 0; c < cols; c += 2 * half) {
      for (int i = c; i < c + half; i += 16) {
        const F16 low = load(out + i), high = load(out + i + half);
        store(out + i, add(low, high));
        store(out + i + half, sub(low, high));
      }
    }
  }
}

// `size` is a power of two that divides `cols`. `out` may be `x` with the same stride; it is writable up to a multiple
// of 16.
QC_KERNEL void rotate_rows(const float* x, std::ptrdiff_t ld, int rows, int cols, int size, float* out,
                           std::ptrdiff_t ld_out) {
  for (int m = 0; m < rows; ++m, x += ld, out += ld_out) {
    switch (size) {
      case 16: rotate_sets<1>(x, cols, out); break;
      case 32: rotate_sets<2>(x, cols, out); break;
      case 64: rotate_sets<4>(x, cols, out); break;
      default: rotate_row(x, cols, size, out);
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
