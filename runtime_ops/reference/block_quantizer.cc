#include <algorithm>
#include <cmath>

#include "reference.h"

namespace qcompiler {
namespace reference {
namespace {

// NaN becomes the lower bound.
float clip(float x, float low, float high) { return x > low ? std::min(x, high) : low; }

float half_of(const cpu::BlockSpec& spec) { return static_cast<float>(1 << (spec.bits - 1)); }

float most_of(const cpu::BlockSpec& spec) { return std::floor(127.0f / half_of(spec)); }

}  // namespace

float block_scale(const cpu::BlockSpec& spec, const float* x, std::int64_t ld, std::int64_t rows,
                  std::int64_t channels) {
  float peak = 0.0f;
  for (std::int64_t n = 0; n < rows; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) peak = std::max(peak, std::fabs(x[n * ld + c]));
  }
  return peak > 1e-30f ? peak / (most_of(spec) * half_of(spec)) : 1.0f;
}

void quantize_blocks(const cpu::BlockSpec& spec, const float* x, std::int64_t channels, float scale,
                     std::int32_t* operand) {
  const float top = static_cast<float>((1 << spec.bits) - 1);
  const float units = 1.0f / scale;
  for (std::int64_t begin = 0; begin < channels; begin += spec.block) {
    const std::int64_t end = begin + spec.block;
    float low = 0.0f, high = 0.0f;
    for (std::int64_t c = begin; c < end; ++c) {
      low = std::min(low, x[c] * units);
      high = std::max(high, x[c] * units);
    }
    low *= spec.clip;
    high *= spec.clip;
    const float multiplier = clip(std::ceil((high - low) * (1.0f / top) - spec.slack), 1.0f, most_of(spec));
    const float inverse = 1.0f / multiplier;
    const float zero_point = clip(std::rint(-low * inverse), 0.0f, top);
    for (std::int64_t c = begin; c < end; ++c) {
      const float code = clip(std::rint(x[c] * units * inverse) + zero_point, 0.0f, top);
      operand[c] = static_cast<std::int32_t>(clip(multiplier * (code - zero_point), -127.0f, 127.0f));
    }
  }
}

}  // namespace reference
}  // namespace qcompiler
