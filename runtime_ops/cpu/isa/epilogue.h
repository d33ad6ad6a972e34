// From int32 accumulators to float output. The order of the multiplications and additions is part of the operators'
// definition; no fused multiply-add here.

namespace qcompiler {
namespace cpu {
namespace {

template <Gelu kGelu, int kN>
QC_INLINE Floats<kN> activate(const Floats<kN>& y) {
  if (kGelu == Gelu::kErf) return gelu_erf(y);
  if (kGelu == Gelu::kTanh) return gelu_tanh(y);
  return y;
}

// Columns from n on in row m, without the residual.
template <Gelu kGelu, int kN>
QC_INLINE Floats<kN> finished(const Epilogue& e, int m, int n, F16 outer, I16 zero) {
  const std::ptrdiff_t at = m * e.ld_acc + n;
  Floats<kN> v;
  if (e.sum != nullptr) {
    v = mul(load_floats<kN>(e.sum + at), outer);
  } else {
    Integers<kN> acc = load_integers<kN>(e.acc + at);
    if (e.zero != nullptr) acc = sub_product_i(acc, zero, load_integers<kN>(e.column_sum + n));
    v = mul(to_float(acc), outer);
  }
  v = mul(v, load_floats<kN>(e.w_scale + n));
  if (e.bias != nullptr) v = add(v, load_floats<kN>(e.bias + n));
  return activate<kGelu>(v);
}

template <Gelu kGelu>
QC_INLINE void epilogue_rows(const Epilogue& e) {
  for (int m = 0; m < e.rows; ++m) {
    const F16 outer = set(e.outer != nullptr ? e.outer[m] : 1.0f);
    const I16 zero = set_i(e.zero != nullptr ? e.zero[m] : 0);
    float* const y = e.y + m * e.ld_y;
    const float* const residual = e.residual != nullptr ? e.residual + m * e.ld_y : nullptr;
    int n = 0;
    for (; n + kWide <= e.cols; n += kWide) {
      Floats<kAbreast> v = finished<kGelu, kAbreast>(e, m, n, outer, zero);
      if (residual != nullptr) v = add(v, load_floats<kAbreast>(residual + n));
      store(y + n, v);
    }
    for (; n < e.cols; n += 16) {
      F16 v = finished<kGelu, 1>(e, m, n, outer, zero).v[0];
      const int left = e.cols - n;
      if (residual != nullptr) v = add(v, load_n(residual + n, left));
      store_n(y + n, v, left);
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
