// Rows in blocks of channels: an outer scale per row, a small integer multiplier and a zero point per block.

namespace qcompiler {
namespace cpu {
namespace {

// Ranges of 16 blocks of 16 kVectors channels, zero included.
template <int kVectors>
QC_INLINE void whole_ranges(const float* const* blocks, F16* lower, F16* upper) {
  F16 lows[16], highs[16];
#pragma GCC unroll 16
  for (int b = 0; b < 16; ++b) {
    lows[b] = highs[b] = set(0.0f);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const F16 v = load(blocks[b] + 16 * i);
      lows[b] = min(v, lows[b]);
      highs[b] = max(v, highs[b]);
    }
  }
  *lower = reduce_min_each(lows);
  *upper = reduce_max_each(highs);
}

// The same for up to 16 blocks of any size: lanes without a channel are loaded as zero and so do not count. Blocks from
// `count` on have empty ranges.
QC_INLINE void some_ranges(const float* const* blocks, int count, int size, F16* lower, F16* upper) {
  float low[16] = {}, high[16] = {};
  for (int b = 0; b < count; ++b) {
    F16 least = set(0.0f), most = least;
    for (int c = 0; c < size; c += 16) {
      const F16 v = size - c < 16 ? load_n(blocks[b] + c, size - c) : load(blocks[b] + c);
      least = min(v, least);
      most = max(v, most);
    }
    low[b] = reduce_min(least);
    high[b] = reduce_max(most);
  }
  *lower = load(low);
  *upper = load(high);
}

QC_INLINE void block_ranges(const float* const* blocks, int count, int size, F16* lower, F16* upper) {
  if (count == 16 && size == 16) {
    whole_ranges<1>(blocks, lower, upper);
  } else if (count == 16 && size == 32) {
    whole_ranges<2>(blocks, lower, upper);
  } else if (count == 16 && size == 64) {
    whole_ranges<4>(blocks, lower, upper);
  } else {
    some_ranges(blocks, count, size, lower, upper);
  }
}

// Blocks of a few rows, one row after the other: one array each, padded to 16.
struct BlockArrays {
  float *low, *high;  // range of the block, then clip bounds in units of its codes less the zero point
  float *multiplier, *inverse;
  float* units;  // 1 / outer scale of its row
};
QC_INLINE BlockArrays arrays_from(const BlockArrays& a, int b) {
  return {a.low + b, a.high + b, a.multiplier + b, a.inverse + b, a.units + b};
}

// What makes a largest magnitude of `peak` the largest that can be coded.
QC_INLINE F16 outer_scale(const BlockQuantizer& q, F16 peak) {
  return select_less(set(1e-30f), peak, div(peak, set(q.reach)), set(1.0f));
}

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

// byte = offset + clip(m * (q - z), -127, 127). Block b as m * (q - z); the codes are clipped before they are rounded, as
// in quantize.h.
QC_INLINE F16 block_operand(F16 x, F16 units, int b, const BlockArrays& a) {
  const F16 code = mul(mul(x, units), set(a.inverse[b]));
  return mul(round(min(max(code, set(a.low[b])), set(a.high[b]))), set(a.multiplier[b]));
}

// One row in blocks of 16 kVectors channels, `a` beginning with its own; 0: the row is one block.
template <int kVectors>
QC_KERNEL __attribute__((noinline)) void whole_bytes(const float* x, int cols, F16 units, const BlockArrays& a, int offset,
                                                     std::uint8_t* out) {
  constexpr int kOf64 = kVectors > 0 ? 4 / kVectors : 0;  // blocks
  int b = 0, c = 0;
  for (; c + 64 <= cols; c += 64, b += kOf64) {
    I16 v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) v[i] = to_int(block_operand(load(x + c + 16 * i), units, b + i * kOf64 / 4, a));
    store_clipped(out + c, v, offset);
  }
  if (c == cols) return;
  I16 v[4];
  for (int i = 0; i < 4; ++i) {
    v[i] = c + 16 * i < cols ? to_int(block_operand(load(x + c + 16 * i), units, b + i * kOf64 / 4, a)) : set_i(0);
  }
  std::uint8_t last[64];
  store_clipped(last, v, offset);
  for (int i = 0; c < cols; c += 16, i += 16) __builtin_memcpy(out + c, last + i, 16);
}

// The same for blocks of any size.
QC_KERNEL __attribute__((noinline)) void some_bytes(const float* x, int cols, int size, F16 units, const BlockArrays& a,
                                                    int offset, std::uint8_t* out) {
  const F16 bottom = set(-127.0f), top = set(127.0f);
  for (int b = 0; b < cols / size; ++b) {
    for (int c = 0; c < size; c += 16) {
      const int left = size - c < 16 ? size - c : 16;
      const F16 operand = block_operand(load_n(x + b * size + c, left), units, b, a);
      // A whole vector would reach over the end of the row: blocks may start anywhere.
      std::uint8_t last[16];
      store_bytes(last, add_i(to_int(min(max(operand, bottom), top)), set_i(offset)));
      for (int i = 0; i < left; ++i) out[b * size + c + i] = last[i];
    }
  }
}

QC_INLINE void block_bytes(const float* x, int cols, int size, float units, const BlockArrays& a, int offset,
                           std::uint8_t* out) {
  switch (size) {
    case 16: whole_bytes<1>(x, cols, set(units), a, offset, out); break;
    case 32: whole_bytes<2>(x, cols, set(units), a, offset, out); break;
    case 64: whole_bytes<4>(x, cols, set(units), a, offset, out); break;
    default:
      if (size % 16 == 0 && size == cols) {
        whole_bytes<0>(x, cols, set(units), a, offset, out);
      } else {
        some_bytes(x, cols, size, set(units), a, offset, out);
      }
  }
}

// Ranges of the blocks of `rows` rows, `count` of them in a row, to a.low and a.high; their magnitudes to a.units.
QC_KERNEL __attribute__((noinline)) void measure_blocks(const float* x, std::ptrdiff_t ld, int rows, int count, int size,
                                                        const BlockArrays& a) {
  const float* row = x;
  for (int b = 0, at = 0; b < rows * count; b += 16) {
    const float* blocks[16];
    const int some = rows * count - b < 16 ? rows * count - b : 16;
    for (int i = 0; i < some; ++i) {
      blocks[i] = row + at * size;
      if (++at == count) row += ld, at = 0;
    }
    F16 low, high;
    block_ranges(blocks, some, size, &low, &high);
    store(a.low + b, low);
    store(a.high + b, high);
    store(a.units + b, max(sub(set(0.0f), low), high));
  }
}

// The largest lane of every `count` neighbours, a power of two, in all of them.
QC_INLINE F16 largest_of_neighbours(F16 x, int count) {
  if (count > 1) x = max(x, exchange<1>(x));
  if (count > 2) x = max(x, exchange<2>(x));
  if (count > 4) x = max(x, exchange<4>(x));
  if (count > 8) x = max(x, exchange<8>(x));
  return x;
}

QC_INLINE float largest(const float* magnitudes, int count) {
  F16 peaks = set(0.0f);
  int b = 0;
  for (; b + 16 <= count; b += 16) peaks = max(load(magnitudes + b), peaks);
  if (b < count) peaks = max(load_n(magnitudes + b, count - b), peaks);
  return reduce_max(peaks);
}

// From magnitudes in a.units to the units of each block's row, and the scales of the rows. Without magnitudes all rows
// have the largest magnitude `common`.
QC_KERNEL __attribute__((noinline)) void scale_blocks(const BlockQuantizer& q, int rows, int count, const float* common,
                                                      const BlockArrays& a, float* scale) {
  const F16 one = set(1.0f);
  if (common != nullptr) {
    const F16 s = outer_scale(q, set(*common));
    for (int b = 0; b < rows * count; b += 16) store(a.units + b, div(one, s));
    for (int m = 0; m < rows; m += 16) store_n(scale + m, s, rows - m);
  } else if (count <= 16 && (count & (count - 1)) == 0) {
    for (int b = 0; b < rows * count; b += 16) {
      const F16 s = outer_scale(q, largest_of_neighbours(load(a.units + b), count));
      store(a.multiplier + b, s);  // free until the parameters are known
      store(a.units + b, div(one, s));
    }
    for (int m = 0; m < rows; ++m) scale[m] = a.multiplier[m * count];
  } else {
    for (int m = 0; m < rows; ++m) {
      float* const row = a.units + m * count;
      const F16 s = outer_scale(q, set(largest(row, count)));
      store_n(scale + m, s, 1);
      const F16 units = div(one, s);
      for (int b = 0; b < count; b += 16) store_n(row + b, units, count - b);
    }
  }
}

// Step by step for several rows at once: what one row waits for, the next one does not.
QC_KERNEL void quantize_blocks(const float* x, std::ptrdiff_t ld, int rows, int cols, const BlockQuantizer& q,
                               bool shared, float* work, float* scale, std::uint8_t* out, std::ptrdiff_t ld_out) {
  const int count = cols / q.block;
  const int batch = rows_of_blocks(count);
  const int padded = (batch * count + 15) & ~15;
  const BlockArrays a = {work, work + padded, work + 2 * padded, work + 3 * padded, work + 4 * padded};
  const float common = shared ? shared_peak(x, ld, rows, cols) : 0.0f;
  for (int m = 0; m < rows; m += batch) {
    const int some = rows - m < batch ? rows - m : batch;
    measure_blocks(x + m * ld, ld, some, count, q.block, a);
    scale_blocks(q, some, count, shared ? &common : nullptr, a, scale + m);
    block_parameters(q, some * count, a);
    for (int i = 0; i < some; ++i) {
      const BlockArrays row = arrays_from(a, i * count);
      block_bytes(x + (m + i) * ld, cols, q.block, *row.units, row, q.offset, out + (m + i) * ld_out);
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
