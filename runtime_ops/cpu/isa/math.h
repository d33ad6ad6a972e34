// exp, erf and GELU on sixteen lanes or several times as many. Include after one *_simd.h.
//
// The polynomials were fitted for this project (weighted least squares on Chebyshev points until the error is
// level), for the error bounds stated at each function; tests/test_stages.cc measures them.

#include "vectors.h"

namespace qcompiler {
namespace cpu {
namespace {

// No fused multiply-add in this file: softmax and GELU results are quantized next, and the operators' bodies, which know
// none, must give the same codes.

// 2^r for |r| <= 0.5, relative error below 2e-7; exactly 1 at r = 0.
template <int kN>
QC_INLINE Floats<kN> exp2_fraction(Floats<kN> r) {
  Floats<kN> p = add(mul(set(0.00132647f), r), set(0.009671534f));
  p = add(mul(p, r), set(0.05550734f));
  p = add(mul(p, r), set(0.24022242f));
  p = add(mul(p, r), set(0.693147f));
  return add(mul(p, r), set(1.0f));
}

// Relative error below 4e-7 on [-80, 88]; clamped outside. exp(-inf) is then about 2e-35, far below any step of a
// quantizer and still a normal number when a softmax divides it by the sum of its row: masked scores would otherwise
// make the rest of the row run on denormals, ten times as slowly. NaN gives exp(-80).
template <int kN>
QC_INLINE Floats<kN> exp(Floats<kN> x) {
  x = min(max(x, set(-80.0f)), set(88.0f));
  const Floats<kN> n = round(mul(x, set(1.44269504f)));
  // ln 2 in two parts: n times the first, which has few bits, is exact.
  Floats<kN> r = sub(x, mul(n, set(0.693359375f)));
  r = sub(r, mul(n, set(-2.12194440e-4f)));
  return scale(exp2_fraction(mul(r, set(1.44269504f))), n);
}

// erf(x) = sign(x) (1 - 2^(-|x| P(|x|))): near 1 the error of the exponent is damped by 1 - erf. Absolute error
// below 1.6e-7 everywhere.
template <int kN>
QC_INLINE Floats<kN> erf(Floats<kN> x) {
  const Floats<kN> a = min(absolute(x), set(4.0f));
  Floats<kN> p = add(mul(set(-4.5358604e-05f), a), set(0.0004455077f));  // -P
  p = add(mul(p, a), set(-0.0014894418f));
  p = add(mul(p, a), set(-0.00077462924f));
  p = add(mul(p, a), set(0.02825368f));
  p = add(mul(p, a), set(-0.1484816f));
  p = add(mul(p, a), set(-0.9184164f));
  p = add(mul(p, a), set(-1.6279086f));
  const Floats<kN> u = mul(a, p);
  const Floats<kN> n = round(u);
  return copy_sign(sub(set(1.0f), scale(exp2_fraction(sub(u, n)), n)), x);
}

template <int kN>
QC_INLINE Floats<kN> gelu_erf(Floats<kN> y) {
  return mul(mul(set(0.5f), y), add(set(1.0f), erf(mul(y, set(0.707106781f)))));
}

// 0.5 y (1 + tanh(u)) = y / (1 + exp(-2u)), u = sqrt(2 / pi) (y + 0.044715 y^3).
template <int kN>
QC_INLINE Floats<kN> gelu_tanh(Floats<kN> y) {
  const Floats<kN> u = mul(y, add(mul(mul(y, y), set(0.797884561f * 0.044715f)), set(0.797884561f)));
  return div(y, add(set(1.0f), exp(mul(set(-2.0f), u))));
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
