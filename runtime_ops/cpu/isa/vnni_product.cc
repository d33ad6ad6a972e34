// The integer product with AVX512-VNNI: vpdpbusd adds four products to an int32 at once and cannot saturate.
#include "../detect.h"
#include "../path.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define QC_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#define QC_INLINE static inline __attribute__((always_inline, target(QC_TARGET)))
#define QC_KERNEL __attribute__((target(QC_TARGET)))

namespace qcompiler {
namespace cpu {

namespace {

constexpr int kRows = 6;    // 6 x 4 sums, 4 of b, 1 of a: 29 of 32 registers
constexpr int kPanels = 4;

using Tile = void (*)(const std::uint8_t* a, std::ptrdiff_t lda, const Panels& b, const char* first,
                      std::int32_t* acc, std::ptrdiff_t ld_acc);

QC_INLINE std::int32_t four_bytes(const std::uint8_t* p) {
  std::int32_t value;
  __builtin_memcpy(&value, p, 4);
  return value;
}

// Assembly instead of the intrinsic: GCC 12 copies every sum to memory and back around _mm512_dpbusd_epi32.
QC_INLINE void dot(__m512i& sum, __m512i a, __m512i b) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

template <int kM, int kN>
QC_KERNEL void tile(const std::uint8_t* a, std::ptrdiff_t lda, const Panels& panels, const char* b, std::int32_t* acc,
                    std::ptrdiff_t ld_acc) {
  __m512i sum[kM][kN];
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kN; ++n) sum[m][n] = _mm512_setzero_si512();
  }
  for (std::int32_t k = 0; k < panels.depth; k += 4, b += 64) {
    __m512i right[kN];
#pragma GCC unroll 4
    for (int n = 0; n < kN; ++n) right[n] = _mm512_loadu_si512(b + n * panels.stride);
#pragma GCC unroll 6
    for (int m = 0; m < kM; ++m) {
      const __m512i left = _mm512_set1_epi32(four_bytes(a + m * lda + k));
#pragma GCC unroll 4
      for (int n = 0; n < kN; ++n) dot(sum[m][n], left, right[n]);
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kN; ++n) _mm512_storeu_si512(acc + m * ld_acc + kPanel * n, sum[m][n]);
  }
}

constexpr Tile kTiles[kPanels][kRows] = {
    {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>},
    {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>},
    {tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>, tile<5, 3>, tile<6, 3>},
    {tile<1, 4>, tile<2, 4>, tile<3, 4>, tile<4, 4>, tile<5, 4>, tile<6, 4>},
};

void product(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
             std::ptrdiff_t ld_acc) {
  const char* data = static_cast<const char*>(b.data);
  for (int p = 0; p < panels; p += kPanels, data += kPanels * b.stride) {
    const int wide = panels - p < kPanels ? panels - p : kPanels;
    for (int m = 0; m < rows; m += kRows) {
      const int count = rows - m < kRows ? rows - m : kRows;
      kTiles[wide - 1][count - 1](a + m * lda, lda, b, data, acc + m * ld_acc + kPanel * p, ld_acc);
    }
  }
}

}  // namespace

const Path kVnniPath = {"avx512vnni", true,    detect_avx512vnni, 4,             1,      kRows, false,
                        nullptr,      nullptr, product,           &kAvx512Stages, nullptr};

}  // namespace cpu
}  // namespace qcompiler

#else
namespace qcompiler {
namespace cpu {
const Path kVnniPath = {"avx512vnni", false,   detect_avx512vnni, 4,       1,      6, false,
                        nullptr,      nullptr, nullptr,           nullptr, nullptr};
}  // namespace cpu
}  // namespace qcompiler
#endif
