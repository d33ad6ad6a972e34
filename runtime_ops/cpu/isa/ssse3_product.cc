// The integer product with SSSE3, for x86-64 without AVX2: pmaddubsw multiplies sixteen bytes where the portable
// product takes eight. Its loops are those of avx2_product.cc at half the width.
#include "../detect.h"
#include "../path.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define QC_TARGET "ssse3"
#define QC_INLINE static inline __attribute__((always_inline, target(QC_TARGET)))
#define QC_KERNEL __attribute__((target(QC_TARGET)))

namespace qcompiler {
namespace cpu {

namespace {

constexpr int kRows = 2;      // 8 sums, 2 of a, 4 of b, 1 product: 15 of 16 registers
constexpr int kRowBlock = 8;  // a whole number of tiles, here and in the portable product
constexpr int kDepth = 8;     // what the portable product needs
constexpr int kVectors = 4;   // of one step of a panel

using Tile = void (*)(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                      std::int32_t period, std::int32_t* acc, std::ptrdiff_t ld_acc);

QC_INLINE __m128i four_bytes(const std::uint8_t* p) {
  std::int32_t value;
  __builtin_memcpy(&value, p, 4);
  return _mm_set1_epi32(value);
}
QC_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
QC_INLINE void store128(void* p, __m128i v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }

// Assembly, because GCC 12 lets the product become the new sum and then copies it back.
QC_INLINE void narrow_step(__m128i a, __m128i b, __m128i& sum) {
  __m128i t;
  __asm__ volatile(
      "movdqa %[a], %[t]\n\t"
      "pmaddubsw %[b], %[t]\n\t"
      "paddw %[t], %[sum]"
      : [sum] "+x"(sum), [t] "=&x"(t)
      : [a] "x"(a), [b] "x"(b));
}

QC_INLINE void widening_step(__m128i a, __m128i b, __m128i ones, __m128i& sum) {
  __m128i t;
  __asm__ volatile(
      "movdqa %[a], %[t]\n\t"
      "pmaddubsw %[b], %[t]\n\t"
      "pmaddwd %[ones], %[t]\n\t"
      "paddd %[t], %[sum]"
      : [sum] "+x"(sum), [t] "=&x"(t)
      : [a] "x"(a), [b] "x"(b), [ones] "x"(ones));
}

// Sums of pairs in int16 for `period` steps, then widened into acc.
template <int kM>
QC_KERNEL void narrow_tile(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                           std::int32_t period, std::int32_t* acc, std::ptrdiff_t ld_acc) {
  const __m128i ones = _mm_set1_epi16(1);
  for (std::int32_t done = 0; done < depth;) {
    const std::int32_t left = (depth - done) / 4;
    const std::int32_t steps = left < period ? left : period;
    __m128i sum[kM][kVectors];
#pragma GCC unroll 2
    for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[m][v] = _mm_setzero_si128();
    }
    for (std::int32_t k = 0; k < steps; ++k, b += 64) {
      __m128i row[kM];
#pragma GCC unroll 2
      for (int m = 0; m < kM; ++m) row[m] = four_bytes(a + m * lda + done + 4 * k);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __m128i right = load128(b + 16 * v);
#pragma GCC unroll 2
        for (int m = 0; m < kM; ++m) narrow_step(row[m], right, sum[m][v]);
      }
    }
#pragma GCC unroll 2
    for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        std::int32_t* const c = acc + m * ld_acc + 4 * v;
        const __m128i wide = _mm_madd_epi16(sum[m][v], ones);
        store128(c, done > 0 ? _mm_add_epi32(wide, load128(c)) : wide);
      }
    }
    done += 4 * steps;
  }
}

// Pairs are widened at every step.
template <int kM>
QC_KERNEL void widening_tile(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                             std::int32_t, std::int32_t* acc, std::ptrdiff_t ld_acc) {
  const __m128i ones = _mm_set1_epi16(1);
  __m128i sum[kM][kVectors];
#pragma GCC unroll 2
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[m][v] = _mm_setzero_si128();
  }
  for (std::int32_t k = 0; k < depth; k += 4, b += 64) {
    __m128i row[kM];
#pragma GCC unroll 2
    for (int m = 0; m < kM; ++m) row[m] = four_bytes(a + m * lda + k);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m128i right = load128(b + 16 * v);
#pragma GCC unroll 2
      for (int m = 0; m < kM; ++m) widening_step(row[m], right, ones, sum[m][v]);
    }
  }
#pragma GCC unroll 2
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store128(acc + m * ld_acc + 4 * v, sum[m][v]);
  }
}

constexpr Tile kNarrow[kRows] = {narrow_tile<1>, narrow_tile<2>};
constexpr Tile kWidening[kRows] = {widening_tile<1>, widening_tile<2>};

void product(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
             std::ptrdiff_t ld_acc) {
  if (b.wide) return kPortablePath.product(a, lda, rows, b, panels, acc, ld_acc);
  const Tile* const tiles = b.period < 3 ? kWidening : kNarrow;
  const char* panel = static_cast<const char*>(b.data);
  // A panel stays in the first-level cache while the rows pass by.
  for (int p = 0; p < panels; ++p, panel += b.stride) {
    for (int m = 0; m < rows; m += kRows) {
      const int count = rows - m < kRows ? rows - m : kRows;
      tiles[count - 1](a + m * lda, lda, panel, b.depth, b.period, acc + m * ld_acc + kPanel * p, ld_acc);
    }
  }
}

}  // namespace

const Path kSsse3Path = {"ssse3", true,    detect_ssse3, kDepth,           1,      kRowBlock, true,
                         nullptr, nullptr, product,      &kPortableStages, nullptr};

}  // namespace cpu
}  // namespace qcompiler

#else
namespace qcompiler {
namespace cpu {
const Path kSsse3Path = {"ssse3", false, detect_ssse3, 8, 1, 8, true, nullptr, nullptr, nullptr, nullptr, nullptr};
}  // namespace cpu
}  // namespace qcompiler
#endif
