// Float to the bytes of the left operand. Clipping comes before rounding: the bounds are integers, so the result is
// the same, and the conversion to int32 cannot overflow.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void quantize_rows(const float* x, std::ptrdiff_t ld, int rows, int cols, const RowQuantizer* groups,
                             const std::int32_t* index, std::uint8_t* out, std::ptrdiff_t ld_out) {
  for (int m = 0; m < rows; ++m, x += ld, out += ld_out) {
    const RowQuantizer& q = groups[index[m]];
    const F16 inverse = set(q.inverse), low = set(q.low), high = set(q.high);
    const I16 offset = set_i(q.offset);
    for (int c = 0; c < cols; c += 16) {
      const F16 v = cols - c < 16 ? load_n(x + c, cols - c) : load(x + c);
      store_bytes(out + c, add_i(to_int(min(max(mul(v, inverse), low), high)), offset));
    }
  }
}

QC_INLINE I16 channel_operand(F16 v, const ChannelQuantizer& q, int c) {
  return to_int(min(max(mul(v, load(q.inverse + c)), load(q.low + c)), load(q.high + c)));
}

// rint first, then the multiplier, then saturation: the operand of a group is multiplier * integer.
QC_INLINE I16 multiplied_operand(F16 v, const ChannelQuantizer& q, int c) {
  const F16 code = round(min(max(mul(v, load(q.inverse + c)), load(q.low + c)), load(q.high + c)));
  return to_int(min(max(mul(code, load(q.multiplier + c)), set(-127.0f)), set(127.0f)));
}

QC_KERNEL void quantize_channels(const float* x, std::ptrdiff_t ld, int rows, int cols, const ChannelQuantizer& q,
                                 std::uint8_t* out, std::ptrdiff_t ld_out) {
  const I16 offset = set_i(q.offset);
  for (int m = 0; m < rows; ++m, x += ld, out += ld_out) {
    for (int c = 0; c < cols; c += 16) {
      const F16 v = cols - c < 16 ? load_n(x + c, cols - c) : load(x + c);
      const I16 operand = q.multiplier != nullptr ? multiplied_operand(v, q, c) : channel_operand(v, q, c);
      store_bytes(out + c, add_i(operand, q.add != nullptr ? load_i(q.add + c) : offset));
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
