// The integer product with AMX: tdpbusd multiplies a 16 x 64 tile of u8 by a 64 x 16 tile of s8 into 16 x 16 int32.
// A packed panel is a sequence of such right tiles, 1024 bytes each.
#include "../detect.h"
#include "../path.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define QC_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"
#define QC_KERNEL __attribute__((target(QC_TARGET)))

namespace qcompiler {
namespace cpu {

namespace {

constexpr int kTileRows = 16;
constexpr int kTileDepth = 64;
constexpr int kTileBytes = 1024;

// Layout fixed by the processor: palette 1, bytes per row of tile i at 16 + 2 i, rows of tile i at 48 + i.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64, "tile configuration is 64 bytes");

// In static memory, not on the stack: GCC 12 declares that the instruction reads 8 bytes of it, and may drop stores to
// the other 56.
constexpr TileConfiguration kConfiguration;

// All tiles are full: rows are padded by the caller, depth and columns by the packing.
QC_KERNEL void enter() { _tile_loadconfig(&kConfiguration); }

QC_KERNEL void leave() { _tile_release(); }

// 32 x 32: four sums (tiles 0-3) use each of two left (4, 5) and two right tiles (6, 7) twice.
QC_KERNEL void tile_2x2(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::ptrdiff_t stride,
                        std::int32_t depth, std::int32_t* acc, std::ptrdiff_t ld_acc) {
  const std::uint8_t* const a1 = a + kTileRows * lda;
  const char* b1 = b + stride;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int32_t k = 0; k < depth; k += kTileDepth, b += kTileBytes, b1 += kTileBytes) {
    _tile_loadd(4, a + k, lda);
    _tile_loadd(6, b, 64);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, b1, 64);
    _tile_dpbusd(1, 4, 7);
    _tile_loadd(5, a1 + k, lda);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  const std::ptrdiff_t bytes = 4 * ld_acc;
  std::int32_t* const acc1 = acc + kTileRows * ld_acc;
  _tile_stored(0, acc, bytes);
  _tile_stored(1, acc + kPanel, bytes);
  _tile_stored(2, acc1, bytes);
  _tile_stored(3, acc1 + kPanel, bytes);
}

// 16 x 32, the last rows.
QC_KERNEL void tile_1x2(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::ptrdiff_t stride,
                        std::int32_t depth, std::int32_t* acc, std::ptrdiff_t ld_acc) {
  const char* b1 = b + stride;
  _tile_zero(0);
  _tile_zero(1);
  for (std::int32_t k = 0; k < depth; k += kTileDepth, b += kTileBytes, b1 += kTileBytes) {
    _tile_loadd(4, a + k, lda);
    _tile_loadd(6, b, 64);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, b1, 64);
    _tile_dpbusd(1, 4, 7);
  }
  _tile_stored(0, acc, 4 * ld_acc);
  _tile_stored(1, acc + kPanel, 4 * ld_acc);
}

// 32 x 16, the last panel.
QC_KERNEL void tile_2x1(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                        std::int32_t* acc, std::ptrdiff_t ld_acc) {
  const std::uint8_t* const a1 = a + kTileRows * lda;
  _tile_zero(0);
  _tile_zero(2);
  for (std::int32_t k = 0; k < depth; k += kTileDepth, b += kTileBytes) {
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a + k, lda);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, a1 + k, lda);
    _tile_dpbusd(2, 5, 6);
  }
  _tile_stored(0, acc, 4 * ld_acc);
  _tile_stored(2, acc + kTileRows * ld_acc, 4 * ld_acc);
}

QC_KERNEL void tile_1x1(const std::uint8_t* a, std::ptrdiff_t lda, const char* b, std::int32_t depth,
                        std::int32_t* acc, std::ptrdiff_t ld_acc) {
  _tile_zero(0);
  for (std::int32_t k = 0; k < depth; k += kTileDepth, b += kTileBytes) {
    _tile_loadd(4, a + k, lda);
    _tile_loadd(6, b, 64);
    _tile_dpbusd(0, 4, 6);
  }
  _tile_stored(0, acc, 4 * ld_acc);
}

void product(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
             std::ptrdiff_t ld_acc) {
  const char* data = static_cast<const char*>(b.data);
  for (int p = 0; p < panels; p += 2, data += 2 * b.stride) {
    const bool pair = p + 1 < panels;
    for (int m = 0; m < rows; m += 2 * kTileRows) {
      const std::uint8_t* const left = a + m * lda;
      std::int32_t* const out = acc + m * ld_acc + kPanel * p;
      const bool tall = m + kTileRows < rows;
      if (tall && pair) {
        tile_2x2(left, lda, data, b.stride, b.depth, out, ld_acc);
      } else if (pair) {
        tile_1x2(left, lda, data, b.stride, b.depth, out, ld_acc);
      } else if (tall) {
        tile_2x1(left, lda, data, b.depth, out, ld_acc);
      } else {
        tile_1x1(left, lda, data, b.depth, out, ld_acc);
      }
    }
  }
}

}  // namespace

// Short reductions waste most of a 64-deep tile, so sorted segments run on VNNI.
const Path kAmxPath = {"amx", true,  detect_amx, kTileDepth,     kTileRows, 2 * kTileRows, false,
                       enter, leave, product,    &kAvx512Stages, &kVnniPath};

}  // namespace cpu
}  // namespace qcompiler

#else
namespace qcompiler {
namespace cpu {
const Path kAmxPath = {"amx",   false,   detect_amx, 64,      16,     32, false,
                       nullptr, nullptr, nullptr,    nullptr, nullptr};
}  // namespace cpu
}  // namespace qcompiler
#endif
