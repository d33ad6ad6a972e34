// Memory that is asked for before it is needed.
#ifndef QCOMPILER_CPU_AHEAD_H_
#define QCOMPILER_CPU_AHEAD_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "scratch.h"

namespace qcompiler {
namespace cpu {

// What the product's next steps will touch and no processor expects: rows of y far apart, and the next weights, which a
// batch of one reads from main memory. A few lines are asked for with every step, so that the product hides the wait.
class Ahead {
 public:
  // `weights`: those of the next block; `steps`: products until it begins.
  Ahead(const char* weights, std::ptrdiff_t bytes, std::int64_t steps)
      : weights_(weights), end_(weights + bytes), share_(round_up((bytes + steps - 1) / steps, kLine)) {}

  void weights() {
    const char* const end = std::min(weights_ + share_, end_);
    for (; weights_ < end; weights_ += kLine) __builtin_prefetch(weights_);
  }

  // Every second line: processors fetch them in pairs.
  static void rows(const float* x, std::ptrdiff_t ld, int rows, int cols) {
    for (int m = 0; m < rows; ++m, x += ld) {
      for (int n = 0; n < cols; n += 2 * kLine / static_cast<int>(sizeof(float))) __builtin_prefetch(x + n);
    }
  }

 private:
  static constexpr std::ptrdiff_t kLine = 64;
  const char *weights_, *end_;
  std::ptrdiff_t share_;
};

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_AHEAD_H_
