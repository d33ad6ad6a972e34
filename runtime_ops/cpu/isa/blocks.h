// Rows in blocks of channels: an outer scale per row, a small integer multiplier and a zero point per block.

namespace qcompiler {
namespace cpu {
namespace {

// Range of one block, zero included: lanes without a channel are loaded as zero and so do not count. `peaks` grows to
// its magnitudes.
QC_INLINE void block_range(const float* x, int count, float* lower, float* upper, F16* peaks) {
  F16 low = set(0.0f), high = low;
  for (int c = 0; c < count; c += 16) {
    const F16 v = count - c < 16 ? load_n(x + c, count - c) : load(x + c);
    low = min(v, low);
    high = max(v, high);
  }
  *peaks = max(max(sub(set(0.0f), low), high), *peaks);
  *lower = reduce_min(low);
  *upper = reduce_max(high);
}

// Blocks of one row, or of a few rows one after the other, one array each, padded to 16.
struct BlockArrays {
  float *low, *high;  // range of the block, then clip bounds in units of its codes less the zero point
  float *multiplier, *inverse;
  float* units;  // 1 / outer scale of its row
};

// What makes a largest magnitude of `peak` the largest that can be coded.
QC_INLINE float outer_scale(const BlockQuantizer& q, float peak) { return peak > 1e-30f ? peak / q.reach : 1.0f; }

// Largest magnitude of all rows.
QC_INLINE float shared_peak(const float* x, std::ptrdiff_t ld, int rows, int cols) {
  F16 peaks = set(0.0f);
  for (int m = 0; m < rows; ++m, x += ld) {
    for (int c = 0; c < cols; c += 16) {
      peaks = max(absolute(cols - c < 16 ? load_n(x + c, cols - c) : load(x + c)), peaks);
    }
  }
  return reduce_max(peaks);
}

// From ranges and units to all of it.
QC_INLINE void block_parameters(const BlockQuantizer& q, int count, const BlockArrays& a) {
  const F16 zero = set(0.0f), one = set(1.0f);
  const F16 clip = set(q.clip), slack = set(q.slack);
  const F16 top = set(q.top), inverse_top = set(q.inverse_top), most = set(q.most);
  for (int b = 0; b < count; b += 16) {
    // Multiplying keeps the order, so the range in units of the scale is the scaled range.
    const F16 units = load(a.units + b);
    const F16 low = mul(mul(load(a.low + b), units), clip), high = mul(mul(load(a.high + b), units), clip);
    const F16 multiplier = min(max(ceil(sub(mul(sub(high, low), inverse_top), slack)), one), most);
    const F16 inverse = div(one, multiplier);
    const F16 zero_point = min(max(round(mul(sub(zero, low), inverse)), zero), top);
    store(a.low + b, sub(zero, zero_point));
    store(a.high + b, sub(top, zero_point));
    store(a.multiplier + b, multiplier);
    store(a.inverse + b, inverse);
  }
}

// byte = offset + clip(m * (q - z), -127, 127); the codes are clipped before they are rounded, as in quantize.h.
QC_INLINE void block_bytes(const float* x, int count, int b, const BlockArrays& a, I16 offset, std::uint8_t* out) {
  const F16 units = set(a.units[b]);
  const F16 inverse = set(a.inverse[b]), low = set(a.low[b]), high = set(a.high[b]), multiplier = set(a.multiplier[b]);
  const F16 bottom = set(-127.0f), top = set(127.0f);
  for (int c = 0; c < count; c += 16) {
    const int left = count - c;
    const F16 v = mul(left < 16 ? load_n(x + c, left) : load(x + c), units);
    const F16 code = round(min(max(mul(v, inverse), low), high));
    const I16 byte = add_i(to_int(min(max(mul(code, multiplier), bottom), top)), offset);
    if (left >= 16) {
      store_bytes(out + c, byte);
    } else {
      // A whole vector would reach over the end of the row: blocks may start anywhere.
      std::uint8_t last[16];
      store_bytes(last, byte);
      for (int i = 0; i < left; ++i) out[c + i] = last[i];
    }
  }
}

QC_KERNEL void quantize_blocks(const float* x, std::ptrdiff_t ld, int rows, int cols, const BlockQuantizer& q,
                               bool shared, float* work, float* scale, std::uint8_t* out, std::ptrdiff_t ld_out) {
  const int count = cols / q.block;
  const int batch = count < 16 ? 16 / count : 1;  // rows whose blocks fill a vector: their parameters are one step
  const int padded = (batch * count + 15) & ~15;
  const BlockArrays a = {work, work + padded, work + 2 * padded, work + 3 * padded, work + 4 * padded};
  const I16 offset = set_i(q.offset);
  const float common = shared ? outer_scale(q, shared_peak(x, ld, rows, cols)) : 0.0f;
  for (int m = 0; m < rows; m += batch) {
    const int end = rows - m < batch ? rows : m + batch;
    int used = 0;
    for (int i = m; i < end; ++i) {
      const float* const row = x + i * ld;
      F16 peaks = set(0.0f);
      for (int b = 0; b < count; ++b) {
        block_range(row + b * q.block, q.block, a.low + used + b, a.high + used + b, &peaks);
      }
      scale[i] = shared ? common : outer_scale(q, reduce_max(peaks));
      const float units = 1.0f / scale[i];
      for (int b = 0; b < count; ++b) a.units[used + b] = units;
      used += count;
    }
    for (int b = used; b < padded; ++b) a.low[b] = a.high[b] = a.units[b] = 0.0f;
    block_parameters(q, used, a);
    used = 0;
    for (int i = m; i < end; ++i) {
      const float* const row = x + i * ld;
      for (int b = 0; b < count; ++b, ++used) {
        block_bytes(row + b * q.block, q.block, used, a, offset, out + i * ld_out + b * q.block);
      }
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
