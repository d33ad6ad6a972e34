#include "reference.h"

namespace qcompiler {
namespace reference {

void rotate_row(float* x, std::int64_t count, std::int64_t size) {
  for (std::int64_t half = 1; half < size; half *= 2) {
    for (std::int64_t i = 0; i < count; ++i) {
      if (i / half % 2 != 0) continue;
      const float low = x[i], high = x[i + half];
      x[i] = low + high;
      x[i + half] = low - high;
    }
  }
}

}  // namespace reference
}  // namespace qcompiler
