#if defined(__x86_64__)
#include "../path.h"
#include "avx512_simd.h"
#include "stages.h"

namespace qcompiler {
namespace cpu {
const Stages kAvx512Stages = kStages;
}  // namespace cpu
}  // namespace qcompiler
#endif
