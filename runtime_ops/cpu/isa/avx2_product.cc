// The integer product with AVX2. Four inner loops, chosen by how far sums of products may grow:
//   narrow, period >= 6  vpmaddubsw summed in int16 for `period` steps, then widened into the int32 sums
//   narrow with windows  the same, but every panel says for each of its runs how many steps it takes
//   narrow, else         vpmaddubsw widened at every step
//   wide                 int16 operands, vpmaddwd
// None of them can saturate: max|a| * max|b| * 2 * period <= 32767 by the choice of period (see pack.h), and windows
// end before the weights in them could reach as far (see windows.h).
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

constexpr int kRows = 6;  // 12 sums, 2 of b, 1 of a, 1 product: all 16 registers

// How the steps of one panel are grouped: the period, or the length of every run.
struct Runs {
  std::int32_t period;
  const std::uint8_t* windows;
};

using Tile = void (*)(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth, const Runs& runs,
                      std::int32_t* acc, std::ptrdiff_t ld_acc);

// Four bytes that are read where they lie, whatever their type.
struct __attribute__((packed, may_alias)) FourBytes {
  std::int32_t value;
};
QC_INLINE const FourBytes& four_bytes(const void* p) { return *static_cast<const FourBytes*>(p); }

// One row of a tile: broadcast four bytes of a, multiply with two vectors of b, add to two sums. Assembly, because
// GCC 12 collects the multiplications of all rows first and then keeps half of the sums in memory; 12 sums, two of b
// and the two temporaries are all 16 registers.
QC_INLINE void narrow_step(const void* a, __m256i b0, __m256i b1, __m256i& s0, __m256i& s1) {
  __m256i x, t;
  __asm__ volatile(
      "vpbroadcastd %[a], %[x]\n\t"
      "vpmaddubsw %[b0], %[x], %[t]\n\t"
      "vpmaddubsw %[b1], %[x], %[x]\n\t"
      "vpaddw %[t], %[s0], %[s0]\n\t"
      "vpaddw %[x], %[s1], %[s1]"
      : [s0] "+x"(s0), [s1] "+x"(s1), [x] "=&x"(x), [t] "=&x"(t)
      : [a] "m"(four_bytes(a)), [b0] "x"(b0), [b1] "x"(b1));
}

QC_INLINE void widening_step(const void* a, __m256i b0, __m256i b1, const __m256i& ones, __m256i& s0, __m256i& s1) {
  __m256i x, t;
  __asm__ volatile(
      "vpbroadcastd %[a], %[x]\n\t"
      "vpmaddubsw %[b0], %[x], %[t]\n\t"
      "vpmaddubsw %[b1], %[x], %[x]\n\t"
      "vpmaddwd %[ones], %[t], %[t]\n\t"
      "vpmaddwd %[ones], %[x], %[x]\n\t"
      "vpaddd %[t], %[s0], %[s0]\n\t"
      "vpaddd %[x], %[s1], %[s1]"
      : [s0] "+x"(s0), [s1] "+x"(s1), [x] "=&x"(x), [t] "=&x"(t)
      : [a] "m"(four_bytes(a)), [b0] "x"(b0), [b1] "x"(b1), [ones] "m"(ones));
}

QC_INLINE void wide_step(const void* a, __m256i b0, __m256i b1, __m256i& s0, __m256i& s1) {
  __m256i x, t;
  __asm__ volatile(
      "vpbroadcastd %[a], %[x]\n\t"
      "vpmaddwd %[b0], %[x], %[t]\n\t"
      "vpmaddwd %[b1], %[x], %[x]\n\t"
      "vpaddd %[t], %[s0], %[s0]\n\t"
      "vpaddd %[x], %[s1], %[s1]"
      : [s0] "+x"(s0), [s1] "+x"(s1), [x] "=&x"(x), [t] "=&x"(t)
      : [a] "m"(four_bytes(a)), [b0] "x"(b0), [b1] "x"(b1));
}

// The first step of a run: its products are the sums.
QC_INLINE void first_step(const void* a, __m256i b0, __m256i b1, __m256i& s0, __m256i& s1) {
  __asm__ volatile(
      "vpbroadcastd %[a], %[s1]\n\t"
      "vpmaddubsw %[b0], %[s1], %[s0]\n\t"
      "vpmaddubsw %[b1], %[s1], %[s1]"
      : [s0] "=&x"(s0), [s1] "=&x"(s1)
      : [a] "m"(four_bytes(a)), [b0] "x"(b0), [b1] "x"(b1));
}

// The end of a run: pairs of its int16 sums into the int32 sums at c.
QC_INLINE void end_run(const __m256i& ones, __m256i& s0, __m256i& s1, __m256i (&c)[2]) {
  __asm__ volatile(
      "vpmaddwd %[ones], %[s0], %[s0]\n\t"
      "vpmaddwd %[ones], %[s1], %[s1]\n\t"
      "vpaddd %[c0], %[s0], %[s0]\n\t"
      "vpaddd %[c1], %[s1], %[s1]\n\t"
      "vmovdqa %[s0], %[c0]\n\t"
      "vmovdqa %[s1], %[c1]"
      : [s0] "+x"(s0), [s1] "+x"(s1), [c0] "+m"(c[0]), [c1] "+m"(c[1])
      : [ones] "x"(ones));
}

QC_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
QC_INLINE void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// Runs of steps, int16 sums in registers and int32 sums in memory. The int32 sums lie in a fixed place: addresses of
// twelve vectors of acc would be spilled.
template <int kM, bool kWindows>
QC_KERNEL void run_tile(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                        const Runs& runs, std::int32_t* acc, std::ptrdiff_t ld_acc) {
  __m256i sums[kM][2];
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) sums[m][0] = sums[m][1] = _mm256_setzero_si256();
  std::int32_t left = depth / 4;
  for (const std::uint8_t* window = runs.windows; left > 0;) {
    std::int32_t steps = kWindows ? *window++ : (left < runs.period ? left : runs.period);
    left -= steps;
    __m256i s0[kM], s1[kM];
    __m256i b0 = load256(b), b1 = load256(b + 32);
#pragma GCC unroll 6
    for (int m = 0; m < kM; ++m) first_step(a + m * lda, b0, b1, s0[m], s1[m]);
    for (a += 4, b += 64; --steps > 0; a += 4, b += 64) {
      b0 = load256(b);
      b1 = load256(b + 32);
#pragma GCC unroll 6
      for (int m = 0; m < kM; ++m) narrow_step(a + m * lda, b0, b1, s0[m], s1[m]);
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 6
    for (int m = 0; m < kM; ++m) end_run(ones, s0[m], s1[m], sums[m]);
  }
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) {
    store256(acc + m * ld_acc, sums[m][0]);
    store256(acc + m * ld_acc + 8, sums[m][1]);
  }
}

template <int kM>
QC_KERNEL void widening_tile(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                             const Runs&, std::int32_t* acc, std::ptrdiff_t ld_acc) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i s0[kM], s1[kM];
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) s0[m] = s1[m] = _mm256_setzero_si256();
  for (std::int32_t k = 0; k < depth; k += 4, b += 64) {
    const __m256i b0 = load256(b), b1 = load256(b + 32);
#pragma GCC unroll 6
    for (int m = 0; m < kM; ++m) widening_step(a + m * lda + k, b0, b1, ones, s0[m], s1[m]);
  }
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) {
    store256(acc + m * ld_acc, s0[m]);
    store256(acc + m * ld_acc + 8, s1[m]);
  }
}

// The bytes of a are widened once per tile and chunk, so that the inner loop is a broadcast load again.
constexpr std::int32_t kChunk = 256;

QC_INLINE void widen(const std::uint8_t* a, std::int32_t count, std::int16_t* out) {
  for (std::int32_t k = 0; k < count; k += 16) {
    store256(out + k, _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + k))));
  }
}

template <int kM>
QC_KERNEL void wide_tile(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth, const Runs&,
                         std::int32_t* acc, std::ptrdiff_t ld_acc) {
  alignas(32) std::int16_t words[kM][kChunk];
  __m256i s0[kM], s1[kM];
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) s0[m] = s1[m] = _mm256_setzero_si256();
  for (std::int32_t done = 0; done < depth; done += kChunk) {
    const std::int32_t count = depth - done < kChunk ? depth - done : kChunk;
    for (int m = 0; m < kM; ++m) widen(a + m * lda + done, count, words[m]);
    for (std::int32_t k = 0; k < count; k += 2, b += 64) {
      const __m256i b0 = load256(b), b1 = load256(b + 32);
#pragma GCC unroll 6
      for (int m = 0; m < kM; ++m) wide_step(words[m] + k, b0, b1, s0[m], s1[m]);
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < kM; ++m) {
    store256(acc + m * ld_acc, s0[m]);
    store256(acc + m * ld_acc + 8, s1[m]);
  }
}

constexpr Tile kNarrow[kRows] = {run_tile<1, false>, run_tile<2, false>, run_tile<3, false>,
                                 run_tile<4, false>, run_tile<5, false>, run_tile<6, false>};
constexpr Tile kWindows[kRows] = {run_tile<1, true>, run_tile<2, true>, run_tile<3, true>,
                                  run_tile<4, true>, run_tile<5, true>, run_tile<6, true>};
constexpr Tile kWidening[kRows] = {widening_tile<1>, widening_tile<2>, widening_tile<3>,
                                   widening_tile<4>, widening_tile<5>, widening_tile<6>};
constexpr Tile kWide[kRows] = {wide_tile<1>, wide_tile<2>, wide_tile<3>, wide_tile<4>, wide_tile<5>, wide_tile<6>};

void product(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
             std::ptrdiff_t ld_acc) {
  constexpr std::int32_t kEnough = 6;  // steps from which on windows are not worth their irregularity
  const Tile* const tiles = b.wide                ? kWide
                            : b.period >= kEnough ? kNarrow
                            : b.windows != nullptr ? kWindows
                            : b.period < 3         ? kWidening
                                                   : kNarrow;
  const char* panel = static_cast<const char*>(b.data);
  // A panel stays in the first-level cache while the rows pass by.
  for (int p = 0; p < panels; ++p, panel += b.stride) {
    const Runs runs = {b.period, b.windows != nullptr ? b.windows + p * (b.depth / 4) : nullptr};
    for (int m = 0; m < rows; m += kRows) {
      const int count = rows - m < kRows ? rows - m : kRows;
      tiles[count - 1](a + m * lda, lda, panel, b.depth, runs, acc + m * ld_acc + kPanel * p, ld_acc);
    }
  }
}

}  // namespace

const Path kAvx2Path = {"avx2",  true,    detect_avx2, 4,           1,      kRows, true,
                        nullptr, nullptr, product,     &kAvx2Stages, nullptr};

}  // namespace cpu
}  // namespace qcompiler

#else
namespace qcompiler {
namespace cpu {
const Path kAvx2Path = {"avx2", false, detect_avx2, 4, 1, 6, true, nullptr, nullptr, nullptr, nullptr, nullptr};
}  // namespace cpu
}  // namespace qcompiler
#endif
