// exp, erf and GELU on sixteen lanes. Include after one *_simd.h.
//
// The polynomials were fitted for this project (weighted least squares on Chebyshev points until the error is
// level), for the error bounds stated at each function; tests/test_stages.cc measures them.

namespace qcompiler {
namespace cpu {
namespace {

// No fused multiply-add in this file: softmax and GELU results are quantized next, and the operators' bodies, which know
// none, must give the same codes.

// 2^r for |r| <= 0.5, relative error below 2e-7; exactly 1 at r = 0.
QC_INLINE F16 exp2_fraction(F16 r) {
  F16 p = set(0.00132647f);
  p = add(mul(p, r), set(0.009671534f));
  p = add(mul(p, r), set(0.05550734f));
  p = add(mul(p, r), set(0.24022242f));
  p = add(mul(p, r), set(0.693147f));
  return add(mul(p, r), set(1.0f));
}

// Relative error below 4e-7 on [-87, 88]; clamped outside, so exp(-inf) is about 1e-38. NaN gives exp(-87).
QC_INLINE F16 exp(F16 x) {
  x = min(max(x, set(-87.0f)), set(88.0f));
  const F16 n = round(mul(x, set(1.44269504f)));
  // ln 2 in two parts: n times the first, which has few bits, is exact.
  F16 r = sub(x, mul(n, set(0.693359375f)));
  r = sub(r, mul(n, set(-2.12194440e-4f)));
  return mul(exp2_fraction(mul(r, set(1.44269504f))), power_of_two(n));
}

// erf(x) = sign(x) (1 - 2^(-|x| P(|x|))): near 1 the error of the exponent is damped by 1 - erf. Absolute error
// below 1.6e-7 everywhere.
QC_INLINE F16 erf(F16 x) {
  const F16 a = min(absolute(x), set(4.0f));
  F16 p = set(4.5358604e-05f);
  p = add(mul(p, a), set(-0.0004455077f));
  p = add(mul(p, a), set(0.0014894418f));
  p = add(mul(p, a), set(0.00077462924f));
  p = add(mul(p, a), set(-0.02825368f));
  p = add(mul(p, a), set(0.1484816f));
  p = add(mul(p, a), set(0.9184164f));
  p = add(mul(p, a), set(1.6279086f));
  const F16 u = sub(set(0.0f), mul(a, p));
  const F16 n = round(u);
  return copy_sign(sub(set(1.0f), mul(exp2_fraction(sub(u, n)), power_of_two(n))), x);
}

QC_INLINE F16 gelu_erf(F16 y) {
  return mul(mul(set(0.5f), y), add(set(1.0f), erf(mul(y, set(0.707106781f)))));
}

// 0.5 y (1 + tanh(u)) = y / (1 + exp(-2u)), u = sqrt(2 / pi) (y + 0.044715 y^3).
QC_INLINE F16 gelu_tanh(F16 y) {
  const F16 u = mul(y, add(mul(mul(y, y), set(0.797884561f * 0.044715f)), set(0.797884561f)));
  return div(y, add(set(1.0f), exp(mul(set(-2.0f), u))));
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
