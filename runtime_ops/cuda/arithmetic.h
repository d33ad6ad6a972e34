// The arithmetic of one element, the same on the GPU and in the emulator, and operation by operation that of the
// definitions in runtime_ops/reference and of the CPU's stages (cpu/isa): codes must be equal.
#ifndef QCOMPILER_CUDA_ARITHMETIC_H_
#define QCOMPILER_CUDA_ARITHMETIC_H_

#include <cmath>

#include "../cpu/path.h"
#include "device.h"

namespace qcompiler {
namespace cuda {

// NaN becomes the lower bound.
QC_DEVICE float clip(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

// ---- Group quantizers --------------------------------------------------------------------------------------------

// One row of a table: code - zero_point = clip(rint(x * inverse), low, high).
struct alignas(16) Step {
  float inverse, low, high, multiplier;
};

// Clipped before it is rounded: the bounds are integers, so the order makes no difference.
QC_DEVICE float centred_code(float x, const Step& step) { return rintf(clip(x * step.inverse, step.low, step.high)); }

QC_DEVICE int multiplied_operand(float x, const Step& step) {
  return static_cast<int>(clip(centred_code(x, step) * step.multiplier, -127.0f, 127.0f));
}

// How far the range [lower, upper] is from that of a group.
QC_DEVICE float group_distance(float lower, float upper, float group_lower, float group_upper) {
  const float above = upper - group_upper;
  const float below = lower - group_lower;
  return above * above + below * below;
}

// ---- Blocks ------------------------------------------------------------------------------------------------------

// What makes a largest magnitude of `peak` the largest that can be coded.
QC_DEVICE float outer_scale(const cpu::BlockQuantizer& q, float peak) { return peak > 1e-30f ? peak / q.reach : 1.0f; }

// Of a block with the range [low, high], zero included, in units of 1 / outer scale.
QC_DEVICE Step block_step(const cpu::BlockQuantizer& q, float low, float high, float units) {
  const float bottom = low * units * q.clip, top = high * units * q.clip;
  const float multiplier = clip(ceilf((top - bottom) * q.inverse_top - q.slack), 1.0f, q.most);
  const float inverse = 1.0f / multiplier;
  const float zero_point = clip(rintf((0.0f - bottom) * inverse), 0.0f, q.top);
  return {inverse, 0.0f - zero_point, q.top - zero_point, multiplier};
}

QC_DEVICE int block_operand(float x, float units, const Step& step) { return multiplied_operand(x * units, step); }

// ---- exp, erf, GELU ----------------------------------------------------------------------------------------------

// The polynomials of cpu/isa/math.h, which says how good they are.

// 2^n for -126 <= n <= 127, n integral.
QC_DEVICE float power_of_two(float n) { return from_bits((static_cast<int>(n) + 127) << 23); }

QC_DEVICE float exp2_fraction(float r) {
  float p = r * 0.00132647f + 0.009671534f;
  p = p * r + 0.05550734f;
  p = p * r + 0.24022242f;
  p = p * r + 0.693147f;
  return p * r + 1.0f;
}

QC_DEVICE float exponential(float x) {
  x = fminf(fmaxf(x, -87.0f), 88.0f);
  const float n = rintf(x * 1.44269504f);
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  return exp2_fraction(r * 1.44269504f) * power_of_two(n);
}

QC_DEVICE float error_function(float x) {
  const float a = fminf(fabsf(x), 4.0f);
  float p = 4.5358604e-05f * a + -0.0004455077f;
  p = p * a + 0.0014894418f;
  p = p * a + 0.00077462924f;
  p = p * a + -0.02825368f;
  p = p * a + 0.1484816f;
  p = p * a + 0.9184164f;
  p = p * a + 1.6279086f;
  const float u = 0.0f - a * p;
  const float n = rintf(u);
  return copysignf(1.0f - exp2_fraction(u - n) * power_of_two(n), x);
}

QC_DEVICE float gelu_erf(float y) { return (0.5f * y) * (1.0f + error_function(y * 0.707106781f)); }

QC_DEVICE float gelu_tanh(float y) {
  const float u = y * ((y * y) * (0.797884561f * 0.044715f) + 0.797884561f);
  return y / (1.0f + exponential(-2.0f * u));
}

QC_DEVICE float activate(float y, cpu::Gelu kind) {
  if (kind == cpu::Gelu::kErf) return gelu_erf(y);
  if (kind == cpu::Gelu::kTanh) return gelu_tanh(y);
  return y;
}

// ---- Sums --------------------------------------------------------------------------------------------------------

// sum - zero * column_sum, modulo 2^32 as the products are.
QC_DEVICE int corrected(int sum, int zero, int column_sum) {
  return static_cast<int>(static_cast<unsigned>(sum) - static_cast<unsigned>(zero) * static_cast<unsigned>(column_sum));
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_ARITHMETIC_H_
