// The integer product for any machine: wide panels, pairs of 16-bit products summed in int32, on 16-byte vectors of the
// compiler. x86-64 has one instruction for a pair in its baseline; elsewhere the halves of a lane are taken apart.
#include "../detect.h"
#include "../path.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define QC_INLINE static inline __attribute__((always_inline))

namespace qcompiler {
namespace cpu {

namespace {

typedef std::int32_t I4 __attribute__((vector_size(16)));
typedef std::uint32_t U4 __attribute__((vector_size(16)));
typedef std::uint8_t B8 __attribute__((vector_size(8)));
typedef std::int16_t W8 __attribute__((vector_size(16)));

QC_INLINE I4 load4(const void* p) {
  I4 v;
  __builtin_memcpy(&v, p, 16);
  return v;
}
QC_INLINE void store4(void* p, I4 v) { __builtin_memcpy(p, &v, 16); }

// A lane of a panel is a pair of int16, a lane of the left operand a pair of bytes as int16. Which half comes first
// does not matter: it is the same one in both.
#if defined(__SSE2__)
struct Pairs {
  I4 both;
};
QC_INLINE Pairs split(I4 v) { return {v}; }
QC_INLINE I4 add_products(I4 sum, Pairs a, Pairs b) {
  return (I4)_mm_add_epi32((__m128i)sum, _mm_madd_epi16((__m128i)a.both, (__m128i)b.both));
}
#else
struct Pairs {
  U4 low, high;
};
QC_INLINE Pairs split(I4 v) { return {(U4)((I4)((U4)v << 16) >> 16), (U4)(v >> 16)}; }
QC_INLINE I4 add_products(I4 sum, Pairs a, Pairs b) { return (I4)((U4)sum + a.low * b.low + a.high * b.high); }
#endif

QC_INLINE Pairs broadcast(const std::int16_t* p) {
  std::int32_t pair;
  __builtin_memcpy(&pair, p, 4);
  return split(I4{pair, pair, pair, pair});
}

// x86-64 has 16 registers: 8 sums, 2 of a, 4 of b, 1 product. Elsewhere there are more, and taking b apart is worth
// more rows.
#if defined(__SSE2__)
constexpr int kRows = 2;
#else
constexpr int kRows = 4;
#endif
constexpr int kRowBlock = 8;          // whole tiles for either
constexpr int kVectors = kPanel / 4;  // of one step of a panel
constexpr int kDepth = 8;             // bytes of a are widened that many at a time
constexpr std::int32_t kChunk = 256;  // and so many of a row serve all panels of a call

// A function of its own: inlined, it would take a register from the sums.
__attribute__((noinline)) void widen(const std::uint8_t* a, std::int32_t count, std::int16_t* out) {
  for (std::int32_t k = 0; k < count; k += kDepth) {
    B8 bytes;
    __builtin_memcpy(&bytes, a + k, 8);
    const W8 wide = __builtin_convertvector(bytes, W8);
    __builtin_memcpy(out + k, &wide, 16);
  }
}

using Tile = void (*)(const std::int16_t* a, const char* b, std::int32_t count, bool first, std::int32_t* acc,
                      std::ptrdiff_t ld_acc);

// Rows of a are kChunk apart. `first` starts acc, otherwise the products are added.
template <int kM>
void tile(const std::int16_t* a, const char* b, std::int32_t count, bool first, std::int32_t* acc,
          std::ptrdiff_t ld_acc) {
  I4 sum[kM][kVectors];
#pragma GCC unroll 4
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[m][v] = first ? I4{} : load4(acc + m * ld_acc + 4 * v);
  }
  for (std::int32_t k = 0; k < count; k += 2, b += 64) {
    Pairs left[kM];
#pragma GCC unroll 4
    for (int m = 0; m < kM; ++m) left[m] = broadcast(a + m * kChunk + k);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Pairs right = split(load4(b + 16 * v));
#pragma GCC unroll 4
      for (int m = 0; m < kM; ++m) sum[m][v] = add_products(sum[m][v], left[m], right);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store4(acc + m * ld_acc + 4 * v, sum[m][v]);
  }
}

constexpr Tile kTiles[] = {tile<1>, tile<2>, tile<3>, tile<4>};

void product(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
             std::ptrdiff_t ld_acc) {
  std::int16_t words[kRows * kChunk];
  for (int m = 0; m < rows; m += kRows) {
    const int count = rows - m < kRows ? rows - m : kRows;
    for (std::int32_t k = 0; k < b.depth; k += kChunk) {
      const std::int32_t depth = b.depth - k < kChunk ? b.depth - k : kChunk;
      for (int i = 0; i < count; ++i) widen(a + (m + i) * lda + k, depth, words + i * kChunk);
      const char* panel = static_cast<const char*>(b.data) + 32 * k;
      for (int p = 0; p < panels; ++p, panel += b.stride) {
        kTiles[count - 1](words, panel, depth, k == 0, acc + m * ld_acc + kPanel * p, ld_acc);
      }
    }
  }
}

}  // namespace

const Path kPortablePath = {"portable", true,    detect_always, kDepth,           1,       kRowBlock, false,
                            nullptr,    nullptr, product,       &kPortableStages, nullptr, true};

}  // namespace cpu
}  // namespace qcompiler
