// A group table among an operator's constants.
#ifndef QCOMPILER_CUDA_QUANTIZER_H_
#define QCOMPILER_CUDA_QUANTIZER_H_

#include <vector>

#include "../cpu/quantizer.h"
#include "arithmetic.h"
#include "memory.h"
#include "warp.h"

namespace qcompiler {
namespace cuda {

// Where the columns of a table lie.
struct TableConstants {
  std::size_t lower = 0, upper = 0, steps = 0, zero_points = 0, scales = 0, outers = 0;
  int count = 0;

  // May throw std::bad_alloc.
  void add(const cpu::GroupQuantizer& quantizer, Constants* constants) {
    const std::size_t n = static_cast<std::size_t>(quantizer.count);
    count = quantizer.count;
    std::vector<Step> all(n);
    std::vector<int> zeros(n);
    for (std::size_t i = 0; i < n; ++i) {
      all[i] = {quantizer.inverse[i], quantizer.low[i], quantizer.high[i], quantizer.multiplier[i]};
      zeros[i] = -static_cast<int>(quantizer.low[i]);
    }
    lower = constants->add(quantizer.lower.data(), n, n);
    upper = constants->add(quantizer.upper.data(), n, n);
    steps = constants->add(all);
    zero_points = constants->add(zeros);
    scales = constants->add(quantizer.scale.data(), n, n);
    outers = constants->add(quantizer.outer.data(), n, n);
  }

  GroupBounds bounds(const Constants& constants) const {
    return {constants.at<float>(lower), constants.at<float>(upper), count};
  }
};

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_QUANTIZER_H_
