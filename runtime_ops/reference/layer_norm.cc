#include <cmath>

#include "reference.h"

namespace qcompiler {
namespace reference {

void layer_norm(const float* x, std::int64_t count, const float* gamma, const float* beta, float epsilon, float* out) {
  double sum = 0.0;
  for (std::int64_t c = 0; c < count; ++c) sum += x[c];
  const double mean = sum / static_cast<double>(count);
  double squares = 0.0;
  for (std::int64_t c = 0; c < count; ++c) squares += (x[c] - mean) * (x[c] - mean);
  const double deviation = std::sqrt(squares / static_cast<double>(count) + epsilon);
  for (std::int64_t c = 0; c < count; ++c) {
    out[c] = static_cast<float>((x[c] - mean) / deviation * gamma[c] + (beta != nullptr ? beta[c] : 0.0f));
  }
}

}  // namespace reference
}  // namespace qcompiler
