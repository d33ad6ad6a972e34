#include <cmath>

#include "reference.h"

namespace qcompiler {
namespace reference {

float gelu(float y, cpu::Gelu kind) {
  const double v = y;
  if (kind == cpu::Gelu::kErf) return static_cast<float>(0.5 * v * (1.0 + std::erf(v * std::sqrt(0.5))));
  if (kind == cpu::Gelu::kTanh) {
    const double u = std::sqrt(2.0 / 3.14159265358979323846) * (v + 0.044715 * v * v * v);
    return static_cast<float>(0.5 * v * (1.0 + std::tanh(u)));
  }
  return y;
}

}  // namespace reference
}  // namespace qcompiler
