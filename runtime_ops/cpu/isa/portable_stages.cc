#include "../path.h"
#include "portable_simd.h"
#include "stages.h"

namespace qcompiler {
namespace cpu {
const Stages kPortableStages = kStages;
}  // namespace cpu
}  // namespace qcompiler
