// The integer product with AVX-VNNI: vpdpbusd on ymm registers, for processors that have it and no AVX512. It adds four
// products to an int32 at once and cannot saturate.
#include "../detect.h"
#include "../path.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define QC_TARGET "avx2"
#define QC_INLINE static inline __attribute__((always_inline, target(QC_TARGET)))
#define QC_KERNEL __attribute__((target(QC_TARGET)))

namespace qcompiler {
namespace cpu {

namespace {

constexpr int kRows = 6;  // 12 sums, 2 of b, 1 of a: 15 of 16 registers

using Tile = void (*)(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth, std::int32_t* acc,
                      std::ptrdiff_t ld_acc);

// Four bytes that are read where they lie, whatever their type.
struct __attribute__((packed, may_alias)) FourBytes {
  std::int32_t value;
};

// One row of a tile. Assembly as in avx2_product.cc: GCC 12 spills sums otherwise. {vex} asks for the encoding without
// AVX512.
QC_INLINE void dot_step(const void* a, __m256i b0, __m256i b1, __m256i& s0, __m256i& s1) {
  __m256i x;
  __asm__ volatile(
      "vpbroadcastd %[a], %[x]\n\t"
      "%{vex%} vpdpbusd %[b0], %[x], %[s0]\n\t"
      "%{vex%} vpdpbusd %[b1], %[x], %[s1]"
      : [s0] "+x"(s0), [s1] "+x"(s1), [x] "=&x"(x)
      : [a] "m"(*static_cast<const FourBytes*>(a)), [b0] "x"(b0), [b1] "x"(b1));
}

QC_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
QC_INLINE void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

template <int kM>
QC_KERNEL void tile(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth, std::int32_t* acc,
                    std::ptrdiff_t ld_acc) {
  __m256i s0[kM], s1[kM];
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) s0[m] = s1[m] = _mm256_setzero_si256();
  for (std::int32_t k = 0; k < depth; k += 4, b += 64) {
    const __m256i b0 = load256(b), b1 = load256(b + 32);
#pragma GCC unroll 6
    for (int m = 0; m < kM; ++m) dot_step(a + m * lda + k, b0, b1, s0[m], s1[m]);
  }
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) {
    store256(acc + m * ld_acc, s0[m]);
    store256(acc + m * ld_acc + 8, s1[m]);
  }
}

constexpr Tile kTiles[kRows] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

void product(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
             std::ptrdiff_t ld_acc) {
  const char* panel = static_cast<const char*>(b.data);
  // A panel stays in the first-level cache while the rows pass by.
  for (int p = 0; p < panels; ++p, panel += b.stride) {
    for (int m = 0; m < rows; m += kRows) {
      const int count = rows - m < kRows ? rows - m : kRows;
      kTiles[count - 1](a + m * lda, lda, panel, b.depth, acc + m * ld_acc + kPanel * p, ld_acc);
    }
  }
}

}  // namespace

const Path kAvxVnniPath = {"avxvnni", true,    detect_avxvnni, 4,            1,      kRows, false,
                           nullptr,   nullptr, product,        &kAvx2Stages, nullptr};

}  // namespace cpu
}  // namespace qcompiler

#else
namespace qcompiler {
namespace cpu {
const Path kAvxVnniPath = {"avxvnni", false,   detect_avxvnni, 4,       1,      6, false,
                           nullptr,   nullptr, nullptr,        nullptr, nullptr};
}  // namespace cpu
}  // namespace qcompiler
#endif
