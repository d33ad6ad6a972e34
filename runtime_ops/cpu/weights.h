// The right operand of a linear layer as the product sees it: int8, multipliers and zero points of its blocks applied.
#ifndef QCOMPILER_CPU_WEIGHTS_H_
#define QCOMPILER_CPU_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace qcompiler {
namespace cpu {

struct WeightOperands {
  std::vector<std::int8_t> values;       // [C, D]
  std::vector<std::int32_t> column_sum;  // [D], padded to 16 with zeros
  int largest = 0;                       // magnitude
};

// Fills `operands`; may throw std::bad_alloc.
Status weight_operands(const LinearSpec& spec, WeightOperands* operands);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_WEIGHTS_H_
