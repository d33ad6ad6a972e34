// What this processor and this operating system can run.
#ifndef QCOMPILER_CPU_DETECT_H_
#define QCOMPILER_CPU_DETECT_H_

namespace qcompiler {
namespace cpu {

bool detect_always() noexcept;
bool detect_ssse3() noexcept;
bool detect_avx2() noexcept;        // AVX2, FMA and F16C
bool detect_avxvnni() noexcept;     // AVX-VNNI (the encoding without AVX512) and all of avx2
bool detect_avx512vnni() noexcept;  // AVX512 F, BW, DQ, VL and VNNI
bool detect_amx() noexcept;         // AMX-TILE, AMX-INT8 and all of avx512vnni; asks the kernel for permission

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_DETECT_H_
