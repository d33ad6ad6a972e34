// What every implementation refuses before it copies anything: shapes that do not fit, and sums that could wrap.
#ifndef QCOMPILER_CPU_CHECKS_H_
#define QCOMPILER_CPU_CHECKS_H_

#include "kernels.h"

namespace qcompiler {
namespace cpu {

// The shape of the weight, its pointers, the rotation and the blocks of the input.
Status check_linear(const LinearSpec& spec);
// The int32 sum of C products must not wrap for any input: the largest magnitudes of both sides.
Status check_accumulator(const LinearSpec& spec, int operand, int weight);

// T: float or Half.
template <typename T>
Status check_linear_call(const LinearCallOf<T>& call);

Status check_attention(const AttentionSpec& spec);
template <typename T>
Status check_attention_call(const AttentionSpec& spec, const AttentionCallOf<T>& call);

// Of the operator that the message is to name.
Status check_scratch(const char* name, const void* scratch);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_CHECKS_H_
