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

// Columns from n on in rows from m on, kN vectors of each of kRows rows, without the residual.
template <Gelu kGelu, int kRows, int kN>
QC_INLINE Floats<kRows * kN> finished(const Epilogue& e, int m, int n) {
  constexpr int kAll = kRows * kN;
  const std::ptrdiff_t at = m * e.ld_acc + n;
  Floats<kAll> v;
  if (e.sum != nullptr) {
    v = load_rows<kRows, kN>(e.sum + at, e.ld_acc);
  } else {
    Integers<kAll> acc = load_rows_i<kRows, kN>(e.acc + at, e.ld_acc);
    if (e.column_sum != nullptr) {
      const Integers<kAll> sums = load_rows_i<kRows, kN>(e.column_sum + n, 0);
      acc = sub_i(acc, e.zero != nullptr ? mul_i(spread_rows_i<kRows, kN>(e.zero + m), sums) : sums);
    }
    v = to_float(acc);
  }
  if (e.outer != nullptr) v = mul(v, spread_rows<kRows, kN>(e.outer + m));
  v = mul(v, load_rows<kRows, kN>(e.w_scale + n, 0));
  if (e.bias != nullptr) v = add(v, load_rows<kRows, kN>(e.bias + n, 0));
  return activate<kGelu>(v);
}

// Rows m to m + kRows.
template <Gelu kGelu, int kRows, int kN>
QC_INLINE void finish_rows(const Epilogue& e, int m) {
  float* const y = e.y + m * e.ld_y;
  const float* const residual = e.residual != nullptr ? e.residual + m * e.ld_y : nullptr;
  int n = 0;
  for (; n + 16 * kN <= e.cols; n += 16 * kN) {
    Floats<kRows * kN> v = finished<kGelu, kRows, kN>(e, m, n);
    if (residual != nullptr) v = add(v, load_rows<kRows, kN>(residual + n, e.ld_y));
    store_rows<kRows, kN>(y + n, e.ld_y, v);
  }
  for (; n < e.cols; n += 16) {
    const Floats<kRows> v = finished<kGelu, kRows, 1>(e, m, n);
    const int left = e.cols - n;
    for (int i = 0; i < kRows; ++i) {
      const std::ptrdiff_t at = i * e.ld_y + n;
      store_n(y + at, residual != nullptr ? add(v.v[i], load_n(residual + at, left)) : v.v[i], left);
    }
  }
}

template <Gelu kGelu>
QC_INLINE void epilogue_rows(const Epilogue& e) {
  constexpr int kN = kAbreast < 4 ? kAbreast : 4;  // a block of accumulators has 4 vectors in a row
  constexpr int kRows = kAbreast / kN;
  int m = 0;
  for (; m + kRows <= e.rows; m += kRows) finish_rows<kGelu, kRows, kN>(e, m);
  for (; m < e.rows; ++m) finish_rows<kGelu, 1, kN>(e, m);
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
