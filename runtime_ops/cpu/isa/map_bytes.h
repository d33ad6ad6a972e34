// Table look-up of bytes with byte shuffles of 32-byte vectors (AVX2 and later).

#include <immintrin.h>

namespace qcompiler {
namespace cpu {
namespace {

// 16 entries per shuffle. For part j the index is shifted down by 16 j; adding 0x70 with saturation leaves the top bit
// clear for 0..15 only, and the shuffle gives 0 where the top bit is set.
QC_KERNEL void map_bytes(std::uint8_t* data, std::ptrdiff_t ld, int rows, int cols, const std::uint8_t* table,
                         int count) {
  const int parts = (count + 15) / 16;
  __m256i entries[16];
  for (int j = 0; j < parts; ++j) {
    entries[j] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * j)));
  }
  const __m256i bias = _mm256_set1_epi8(0x70);
  const __m256i step = _mm256_set1_epi8(16);
  for (int m = 0; m < rows; ++m, data += ld) {
    for (int c = 0; c < cols; c += 32) {
      __m256i* const p = reinterpret_cast<__m256i*>(data + c);
      __m256i index = _mm256_loadu_si256(p);
      __m256i result = _mm256_setzero_si256();
      for (int j = 0; j < parts; ++j) {
        result = _mm256_or_si256(result, _mm256_shuffle_epi8(entries[j], _mm256_adds_epu8(index, bias)));
        index = _mm256_sub_epi8(index, step);
      }
      _mm256_storeu_si256(p, result);
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
