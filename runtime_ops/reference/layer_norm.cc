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
  const double variance = squares / static_cast<double>(count);
  const float center = static_cast<float>(mean);
  const float scale = static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(epsilon)));
  for (std::int64_t c = 0; c < count; ++c) {
    out[c] = (x[c] - center) * scale * gamma[c] + (beta != nullptr ? beta[c] : 0.0f);
  }
}

}  // namespace reference
}  // namespace qcompiler
