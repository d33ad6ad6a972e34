#include "pack.h"

#include <cstring>

#include "scratch.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace qcompiler {
namespace cpu {
namespace {

constexpr std::int8_t kZeros[kPanel] = {};

// 4 rows of 16 int8 -> 64 bytes, the 4 values of a column side by side.
void interleave4(const std::int8_t* const rows[4], std::int8_t* out) {
#if defined(__SSE2__)
  __m128i r[4];
  for (int i = 0; i < 4; ++i) r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i]));
  const __m128i low01 = _mm_unpacklo_epi8(r[0], r[1]), high01 = _mm_unpackhi_epi8(r[0], r[1]);
  const __m128i low23 = _mm_unpacklo_epi8(r[2], r[3]), high23 = _mm_unpackhi_epi8(r[2], r[3]);
  __m128i* const p = reinterpret_cast<__m128i*>(out);
  _mm_storeu_si128(p, _mm_unpacklo_epi16(low01, low23));
  _mm_storeu_si128(p + 1, _mm_unpackhi_epi16(low01, low23));
  _mm_storeu_si128(p + 2, _mm_unpacklo_epi16(high01, high23));
  _mm_storeu_si128(p + 3, _mm_unpackhi_epi16(high01, high23));
#else
  for (int n = 0; n < kPanel; ++n) {
    for (int i = 0; i < 4; ++i) out[4 * n + i] = rows[i][n];
  }
#endif
}

// 2 rows of 16 int8 -> 64 bytes of int16, the 2 values of a column side by side.
void interleave2(const std::int8_t* const rows[2], std::int16_t* out) {
#if defined(__SSE2__)
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[0]));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[1]));
  // A byte in the upper half of a word, shifted down arithmetically, is that byte with its sign.
  const __m128i a0 = _mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8), a1 = _mm_srai_epi16(_mm_unpackhi_epi8(a, a), 8);
  const __m128i b0 = _mm_srai_epi16(_mm_unpacklo_epi8(b, b), 8), b1 = _mm_srai_epi16(_mm_unpackhi_epi8(b, b), 8);
  __m128i* const p = reinterpret_cast<__m128i*>(out);
  _mm_storeu_si128(p, _mm_unpacklo_epi16(a0, b0));
  _mm_storeu_si128(p + 1, _mm_unpackhi_epi16(a0, b0));
  _mm_storeu_si128(p + 2, _mm_unpacklo_epi16(a1, b1));
  _mm_storeu_si128(p + 3, _mm_unpackhi_epi16(a1, b1));
#else
  for (int n = 0; n < kPanel; ++n) {
    for (int i = 0; i < 2; ++i) out[2 * n + i] = rows[i][n];
  }
#endif
}

}  // namespace

std::int32_t PanelFormat::depth(std::int64_t k) const {
  return static_cast<std::int32_t>(round_up(k, depth_multiple));
}
std::ptrdiff_t PanelFormat::stride(std::int64_t k) const { return depth(k) * kPanel * (wide ? 2 : 1); }
std::ptrdiff_t PanelFormat::bytes(std::int64_t k, std::int64_t n) const {
  return stride(k) * (round_up(n, kPanel) / kPanel);
}
Panels PanelFormat::panels(const void* data, std::int64_t k) const {
  Panels view;
  view.data = data;
  view.stride = stride(k);
  view.depth = depth(k);
  view.period = period;
  view.wide = wide;
  return view;
}

PanelFormat choose_format(const Path& path, int max_a, int max_b) {
  PanelFormat format;
  format.depth_multiple = path.depth_multiple;
  format.wide = path.widens;
  if (!path.saturates) return format;
  const int pair = 2 * max_a * max_b;  // largest sum of two products
  format.period = pair == 0 ? 32767 : 32767 / pair;
  format.wide = format.period < 1;
  return format;
}

std::ptrdiff_t left_stride(std::int64_t k) {
  const std::ptrdiff_t stride = round_up(k, kDepthPad);
  return stride % 512 == 0 ? stride + kDepthPad : stride;
}

void pack_rows(const std::int8_t* b, std::ptrdiff_t ld, const std::int32_t* rows, std::int64_t k, std::int64_t n,
               const PanelFormat& format, void* out) {
  const int step = format.wide ? 2 : 4;
  const std::int64_t depth = format.depth(k);
  char* to = static_cast<char*>(out);
  for (std::int64_t column = 0; column < n; column += kPanel) {
    const std::int64_t count = n - column < kPanel ? n - column : kPanel;
    for (std::int64_t row = 0; row < depth; row += step, to += 64) {
      const std::int8_t* source[4];
      std::int8_t partial[4][kPanel];
      for (int i = 0; i < step; ++i) {
        const std::int64_t r = row + i >= k ? -1 : (rows != nullptr ? rows[row + i] : row + i);
        source[i] = r < 0 ? kZeros : b + r * ld + column;
        if (r >= 0 && count < kPanel) {
          std::memset(partial[i], 0, kPanel);
          std::memcpy(partial[i], source[i], static_cast<std::size_t>(count));
          source[i] = partial[i];
        }
      }
      if (format.wide) {
        interleave2(source, reinterpret_cast<std::int16_t*>(to));
      } else {
        interleave4(source, reinterpret_cast<std::int8_t*>(to));
      }
    }
  }
}

void pack_transposed(const std::int8_t* b, std::ptrdiff_t ld, std::int64_t k, std::int64_t n,
                     const PanelFormat& format, void* out) {
  const std::int64_t depth = format.depth(k);
  const std::int64_t full = k / 4 * 4;
  // In units of elements: both formats hold `step` values of K of one column side by side.
  const std::int64_t step = format.wide ? 2 : 4;
  char* panel = static_cast<char*>(out);
  for (std::int64_t column = 0; column < n; column += kPanel, panel += format.stride(k)) {
    const std::int64_t count = n - column < kPanel ? n - column : kPanel;
    if (count < kPanel || full < depth) std::memset(panel, 0, static_cast<std::size_t>(format.stride(k)));
    for (std::int64_t c = 0; c < count; ++c) {
      const std::int8_t* const from = b + (column + c) * ld;
      if (format.wide) {
        std::int16_t* const to = reinterpret_cast<std::int16_t*>(panel) + 2 * c;
        for (std::int64_t i = 0; i + 2 <= k; i += 2) {
          to[kPanel * i] = from[i];
          to[kPanel * i + 1] = from[i + 1];
        }
        if (k % 2 != 0) to[kPanel * (k - 1)] = from[k - 1];
      } else {
        char* const to = panel + step * c;
        for (std::int64_t i = 0; i < full; i += 4) std::memcpy(to + kPanel * i, from + i, 4);
        for (std::int64_t i = full; i < k; ++i) to[kPanel * full + i - full] = static_cast<char>(from[i]);
      }
    }
  }
}

void unpack_int4(const std::uint8_t* packed, std::int64_t count, std::int8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const int nibble = packed[i / 2] >> (i % 2 * 4) & 15;
    out[i] = static_cast<std::int8_t>(nibble < 8 ? nibble : nibble - 16);
  }
}

}  // namespace cpu
}  // namespace qcompiler
