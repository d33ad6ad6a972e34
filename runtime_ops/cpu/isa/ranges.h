// Ranges of items (channels or rows) and their assignment to groups.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void channel_ranges(const float* x, std::ptrdiff_t ld, int rows, int cols, float* lower, float* upper,
                              bool first) {
  for (int c = 0; c < cols; c += 16) {
    const int n = cols - c;
    const float* p = x + c;
    F16 low, high;
    if (first) {
      low = high = n < 16 ? load_n(p, n) : load(p);
    } else {
      low = load(lower + c);
      high = load(upper + c);
    }
    if (n < 16) {
      for (int m = 0; m < rows; ++m, p += ld) {
        const F16 v = load_n(p, n);
        low = min(low, v);
        high = max(high, v);
      }
    } else {
      for (int m = 0; m < rows; ++m, p += ld) {
        const F16 v = load(p);
        low = min(low, v);
        high = max(high, v);
      }
    }
    store(lower + c, low);
    store(upper + c, high);
  }
}

QC_KERNEL void row_ranges(const float* x, std::ptrdiff_t ld, int rows, int cols, float* lower, float* upper) {
  const int full = cols & ~15;
  for (int m = 0; m < rows; ++m, x += ld) {
    F16 low = set(x[0]), high = low;
    for (int c = 0; c < full; c += 16) {
      const F16 v = load(x + c);
      low = min(low, v);
      high = max(high, v);
    }
    if (full < cols) {
      const F16 v = keep_n(load_n(x + full, cols - full), cols - full, low);
      low = min(low, v);
      high = max(high, keep_n(v, cols - full, high));
    }
    lower[m] = reduce_min(low);
    upper[m] = reduce_max(high);
  }
}

// argmin over the groups of (M - upper)^2 + (m - lower)^2; strictly less, so ties keep the lowest index.
QC_KERNEL void assign(const float* lower, const float* upper, int count, const GroupColumns& groups,
                      std::int32_t* index) {
  for (int i = 0; i < count; i += 16) {
    const F16 low = load(lower + i), high = load(upper + i);
    F16 best = set(__builtin_inff());
    I16 winner = set_i(0);
    for (int g = 0; g < groups.count; ++g) {
      const F16 a = sub(high, set(groups.upper[g]));
      const F16 b = sub(low, set(groups.lower[g]));
      const F16 distance = add(mul(a, a), mul(b, b));
      winner = select_less_i(distance, best, set_i(g), winner);
      best = select_less(distance, best, distance, best);
    }
    store_i(index + i, winner);
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
