// The right operand of a linear layer as the product sees it: int8, multipliers and zero points of its blocks applied.
#ifndef QCOMPILER_CPU_WEIGHTS_H_
#define QCOMPILER_CPU_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace qcompiler {
namespace cpu {

// Fills `operand` [C, D]; may throw std::bad_alloc.
Status weight_operands(const LinearSpec& spec, std::vector<std::int8_t>* operand);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_WEIGHTS_H_
