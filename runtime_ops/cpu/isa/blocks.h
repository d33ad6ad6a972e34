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

// Rows of `count` blocks of `size` channels.
struct RowsOfBlocks {
  const float* x;
  std::ptrdiff_t ld;
  int rows, count, size;
  __attribute__((always_inline)) int cols() const { return count * size; }
};

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

QC_INLINE I16 operand_byte(F16 operand, int offset) {
  return add_i(to_int(min(max(operand, set(-127.0f)), set(127.0f))), set_i(offset));
}

// Rows in blocks of 16 kVectors channels; 0: every row is one block.
template <int kVectors>
QC_KERNEL __attribute__((noinline)) void whole_bytes(const RowsOfBlocks& r, const BlockArrays& a, int offset,
                                                     std::uint8_t* out, std::ptrdiff_t ld_out) {
  constexpr int kOf64 = kVectors > 0 ? 4 / kVectors : 0;  // blocks
  const float* x = r.x;
  for (int m = 0; m < r.rows; ++m, x += r.ld, out += ld_out) {
    int b = m * r.count, c = 0;
    const F16 units = set(a.units[b]);
    for (; c + 64 <= r.cols(); c += 64, b += kOf64) {
      I16 v[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) v[i] = to_int(block_operand(load(x + c + 16 * i), units, b + i * kOf64 / 4, a));
      store_clipped(out + c, v, offset);
    }
    for (int i = 0; c < r.cols(); c += 16, ++i) {
      store_bytes(out + c, operand_byte(block_operand(load(x + c), units, b + i * kOf64 / 4, a), offset));
    }
  }
}

// The same for blocks of any size.
QC_KERNEL __attribute__((noinline)) void some_bytes(const RowsOfBlocks& r, const BlockArrays& a, int offset,
                                                    std::uint8_t* out, std::ptrdiff_t ld_out) {
  for (int b = 0; b < r.rows * r.count; ++b) {
    const std::ptrdiff_t row = b / r.count, begin = b % r.count * r.size;
    const F16 units = set(a.units[b]);
    for (int c = 0; c < r.size; c += 16) {
      const int left = r.size - c < 16 ? r.size - c : 16;
      const F16 operand = block_operand(load_n(r.x + row * r.ld + begin + c, left), units, b, a);
      // A whole vector would reach over the end of the row: blocks may start anywhere.
      std::uint8_t last[16];
      store_bytes(last, operand_byte(operand, offset));
      for (int i = 0; i < left; ++i) out[row * ld_out + begin + c + i] = last[i];
    }
  }
}

QC_INLINE void block_bytes(const RowsOfBlocks& r, const BlockArrays& a, int offset, std::uint8_t* out,
                           std::ptrdiff_t ld_out) {
  if (r.size == 16) {
    whole_bytes<1>(r, a, offset, out, ld_out);
  } else if (r.size == 32) {
    whole_bytes<2>(r, a, offset, out, ld_out);
  } else if (r.size == 64) {
    whole_bytes<4>(r, a, offset, out, ld_out);
  } else if (r.count == 1 && r.size % 16 == 0) {
    whole_bytes<0>(r, a, offset, out, ld_out);
  } else {
    some_bytes(r, a, offset, out, ld_out);
  }
}

// Ranges of the blocks to a.low and a.high; their magnitudes to a.units.
QC_KERNEL __attribute__((noinline)) void measure_blocks(const RowsOfBlocks& r, const BlockArrays& a) {
  const float* row = r.x;
  for (int b = 0, at = 0; b < r.rows * r.count; b += 16) {
    const float* blocks[16];
    const int some = r.rows * r.count - b < 16 ? r.rows * r.count - b : 16;
    for (int i = 0; i < some; ++i) {
      blocks[i] = row + at * r.size;
      if (++at == r.count) row += r.ld, at = 0;
    }
    F16 low, high;
    block_ranges(blocks, some, r.size, &low, &high);
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
  if (count < 8) {
    float peak = 0.0f;
    for (int b = 0; b < count; ++b) peak = magnitudes[b] > peak ? magnitudes[b] : peak;
    return peak;
  }
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
    float* const by_row = a.multiplier;  // free, too; peaks, then units
    for (int m = 0; m < rows; ++m) by_row[m] = largest(a.units + m * count, count);
    for (int m = 0; m < rows; m += 16) {
      const F16 s = outer_scale(q, load(by_row + m));
      store_n(scale + m, s, rows - m);
      store(by_row + m, div(one, s));
    }
    for (int m = 0; m < rows; ++m) {
      // The last vector reaches into the next row, whose turn comes after, or behind the last one.
      for (int b = 0; b < count; b += 16) store(a.units + m * count + b, set(by_row[m]));
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
    const RowsOfBlocks some = {x + m * ld, ld, rows - m < batch ? rows - m : batch, count, q.block};
    measure_blocks(some, a);
    scale_blocks(q, some.rows, count, shared ? &common : nullptr, a, scale + m);
    block_parameters(q, some.rows * count, a);
    block_bytes(some, a, q.offset, out + m * ld_out, ld_out);
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
