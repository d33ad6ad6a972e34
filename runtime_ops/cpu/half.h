// float16 tensors as float ones, and back, with the instructions of a path and the threads of a call.
#ifndef QCOMPILER_CPU_HALF_H_
#define QCOMPILER_CPU_HALF_H_

#include <cstdint>

#include "path.h"

namespace qcompiler {
namespace cpu {

void from_half(const Path& path, const Half* x, std::int64_t count, float* out, const Parallel& parallel);
// To nearest, ties to even; what is too large becomes infinity.
void to_half(const Path& path, const float* x, std::int64_t count, Half* out, const Parallel& parallel);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_HALF_H_
