#include <cmath>

#include "reference.h"

namespace qcompiler {
namespace reference {

float row_norm(float* x, std::int64_t count) {
  double squares = 0.0;
  for (std::int64_t c = 0; c < count; ++c) squares += static_cast<double>(x[c]) * x[c];
  const float root = static_cast<float>(std::sqrt(squares / static_cast<double>(count)));
  const float norm = root > 0.0f ? root : 1.0f;
  const float inverse = 1.0f / norm;
  for (std::int64_t c = 0; c < count; ++c) x[c] *= inverse;
  return norm;
}

}  // namespace reference
}  // namespace qcompiler
