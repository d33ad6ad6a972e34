// From int32 accumulators to float output. The order of the multiplications and additions is part of the operators'
// definition; no fused multiply-add here.

namespace qcompiler {
namespace cpu {
namespace {

template <Gelu kGelu>
QC_INLINE F16 activate(F16 y) {
  if (kGelu == Gelu::kErf) return gelu_erf(y);
  if (kGelu == Gelu::kTanh) return gelu_tanh(y);
  return y;
}

template <Gelu kGelu>
QC_INLINE void epilogue_rows(const Epilogue& e) {
  for (int m = 0; m < e.rows; ++m) {
    const F16 outer = set(e.outer != nullptr ? e.outer[m] : 1.0f);
    const I16 zero = set_i(e.zero != nullptr ? e.zero[m] : 0);
    for (int n = 0; n < e.cols; n += 16) {
      F16 v;
      if (e.sum != nullptr) {
        v = mul(load(e.sum + m * e.ld_acc + n), outer);
      } else {
        I16 acc = load_i(e.acc + m * e.ld_acc + n);
        if (e.zero != nullptr) acc = sub_i(acc, mul_i(zero, load_i(e.column_sum + n)));
        v = mul(to_float(acc), outer);
      }
      v = mul(v, load(e.w_scale + n));
      if (e.bias != nullptr) v = add(v, load(e.bias + n));
      v = activate<kGelu>(v);
      const std::ptrdiff_t at = m * e.ld_y + n;
      const int left = e.cols - n;
      if (left >= 16) {
        if (e.residual != nullptr) v = add(v, load(e.residual + at));
        store(e.y + at, v);
      } else {
        if (e.residual != nullptr) v = add(v, load_n(e.residual + at, left));
        store_n(e.y + at, v, left);
      }
    }
  }
}

QC_KERNEL void epilogue(const Epilogue& e) {
  switch (e.gelu) {
    case Gelu::kNone: epilogue_rows<Gelu::kNone>(e); break;
    case Gelu::kErf: epilogue_rows<Gelu::kErf>(e); break;
    case Gelu::kTanh: epilogue_rows<Gelu::kTanh>(e); break;
  }
}

QC_KERNEL void add_segment(const std::int32_t* acc, std::ptrdiff_t ld, int rows, int cols,
                           const std::int32_t* correction, float scale, bool first, float* sum) {
  const F16 scale16 = set(scale);
  for (int m = 0; m < rows; ++m, acc += ld, sum += ld) {
    for (int n = 0; n < cols; n += 16) {
      const F16 v = mul(to_float(sub_i(load_i(acc + n), load_i(correction + n))), scale16);
      store(sum + n, first ? v : add(load(sum + n), v));
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
