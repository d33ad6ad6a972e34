// Sixteen float / int32 lanes as one zmm register. Same functions as avx2_simd.h, which documents them.
#ifndef QCOMPILER_CPU_ISA_AVX512_SIMD_H_
#define QCOMPILER_CPU_ISA_AVX512_SIMD_H_

// GCC 12 takes the deliberately undefined operands inside its own header for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>

#define QC_TARGET "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#define QC_INLINE static inline __attribute__((always_inline, target(QC_TARGET)))
#define QC_KERNEL __attribute__((target(QC_TARGET)))

namespace qcompiler {
namespace cpu {
namespace {

struct F16 {
  __m512 v;
};
struct I16 {
  __m512i v;
};

QC_INLINE __mmask16 lanes(int n) {
  const int count = n < 0 ? 0 : (n > 16 ? 16 : n);
  return static_cast<__mmask16>((1u << count) - 1u);
}

QC_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
QC_INLINE F16 load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(lanes(n), p)}; }
QC_INLINE void store(float* p, F16 v) { _mm512_storeu_ps(p, v.v); }
QC_INLINE void store_n(float* p, F16 v, int n) { _mm512_mask_storeu_ps(p, lanes(n), v.v); }
QC_INLINE I16 load_i(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
QC_INLINE void store_i(std::int32_t* p, I16 v) { _mm512_storeu_si512(p, v.v); }

QC_INLINE F16 load_half(const std::uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
QC_INLINE void store_half(std::uint16_t* p, F16 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

constexpr int kAbreast = 8;

QC_INLINE void keep_together(F16 (&x)[kAbreast]) {
  __asm__("" : "+v"(x[0].v), "+v"(x[1].v), "+v"(x[2].v), "+v"(x[3].v), "+v"(x[4].v), "+v"(x[5].v), "+v"(x[6].v), "+v"(x[7].v));
}

QC_INLINE F16 set(float v) { return {_mm512_set1_ps(v)}; }
QC_INLINE I16 set_i(std::int32_t v) { return {_mm512_set1_epi32(v)}; }
QC_INLINE F16 add(F16 x, F16 y) { return {_mm512_add_ps(x.v, y.v)}; }
QC_INLINE F16 sub(F16 x, F16 y) { return {_mm512_sub_ps(x.v, y.v)}; }
QC_INLINE F16 mul(F16 x, F16 y) { return {_mm512_mul_ps(x.v, y.v)}; }
QC_INLINE F16 div(F16 x, F16 y) { return {_mm512_div_ps(x.v, y.v)}; }
QC_INLINE F16 min(F16 x, F16 y) { return {_mm512_min_ps(x.v, y.v)}; }
QC_INLINE F16 max(F16 x, F16 y) { return {_mm512_max_ps(x.v, y.v)}; }
QC_INLINE F16 sqrt(F16 x) { return {_mm512_sqrt_ps(x.v)}; }
QC_INLINE F16 round(F16 x) {
  return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
QC_INLINE F16 ceil(F16 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)}; }
QC_INLINE F16 absolute(F16 x) { return {_mm512_and_ps(x.v, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff)))}; }
QC_INLINE F16 copy_sign(F16 x, F16 sign) {
  const __m512i m = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  constexpr int kOrAnd = 0xf8;  // a | (b & c)
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(x.v), _mm512_castps_si512(sign.v), m, kOrAnd))};
}
QC_INLINE F16 select_less(F16 x, F16 y, F16 p, F16 q) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), q.v, p.v)};
}
QC_INLINE I16 select_less_i(F16 x, F16 y, I16 p, I16 q) {
  return {_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), q.v, p.v)};
}
QC_INLINE F16 keep_n(F16 x, int n, F16 fill) { return {_mm512_mask_blend_ps(lanes(n), fill.v, x.v)}; }
template <int kHalf>
QC_INLINE F16 exchange(F16 x) {
  constexpr int kSwap = kHalf == 1 || kHalf == 4 ? 0xb1 : 0x4e;
  return {kHalf < 4 ? _mm512_permute_ps(x.v, kSwap) : _mm512_shuffle_f32x4(x.v, x.v, kSwap)};
}
template <int kHalf>
QC_INLINE F16 butterfly(F16 x) {
  constexpr __mmask16 kUpper = kHalf == 1 ? 0xaaaa : kHalf == 2 ? 0xcccc : kHalf == 4 ? 0xf0f0 : 0xff00;
  // The product with 1 or -1 is exact: one rounding, as in y + x and y - x.
  const __m512 sign = _mm512_mask_blend_ps(kUpper, _mm512_set1_ps(1.0f), _mm512_set1_ps(-1.0f));
  return {_mm512_fmadd_ps(x.v, sign, exchange<kHalf>(x).v)};
}

QC_INLINE I16 to_int(F16 x) { return {_mm512_cvtps_epi32(x.v)}; }
QC_INLINE F16 to_float(I16 x) { return {_mm512_cvtepi32_ps(x.v)}; }
QC_INLINE I16 add_i(I16 x, I16 y) { return {_mm512_add_epi32(x.v, y.v)}; }
QC_INLINE I16 sub_i(I16 x, I16 y) { return {_mm512_sub_epi32(x.v, y.v)}; }
QC_INLINE I16 mul_i(I16 x, I16 y) { return {_mm512_mullo_epi32(x.v, y.v)}; }
QC_INLINE F16 scale(F16 x, F16 n) { return {_mm512_scalef_ps(x.v, n.v)}; }

QC_INLINE void store_bytes(std::uint8_t* p, I16 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v.v));
}

QC_INLINE void store_clipped(std::uint8_t* p, const I16 (&v)[4], int offset) {
  const __m512i words = _mm512_packs_epi32(v[0].v, v[1].v), more = _mm512_packs_epi32(v[2].v, v[3].v);
  const __m512i clipped = _mm512_max_epi8(_mm512_packs_epi16(words, more), _mm512_set1_epi8(-127));
  // Packing works within 128 bits: four bytes of each vector in turn.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_permutexvar_epi32(order, clipped);
  _mm512_storeu_si512(p, _mm512_add_epi8(bytes, _mm512_set1_epi8(static_cast<char>(offset))));
}

QC_INLINE float reduce_add(F16 x) { return _mm512_reduce_add_ps(x.v); }
// Sixteen sums in double: rounded to float once at the end, they do not depend on the order of the additions.
struct D16 {
  __m512d a, b;
};
QC_INLINE D16 zero_d() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
QC_INLINE D16 widen(F16 x) {
  const __m512d bits = _mm512_castps_pd(x.v);
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x.v)),
          _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(bits, 1)))};
}
QC_INLINE D16 add_d(D16 s, D16 x) { return {_mm512_add_pd(s.a, x.a), _mm512_add_pd(s.b, x.b)}; }
QC_INLINE D16 sub_d(D16 x, double y) {
  const __m512d v = _mm512_set1_pd(y);
  return {_mm512_sub_pd(x.a, v), _mm512_sub_pd(x.b, v)};
}
QC_INLINE D16 add_square_d(D16 s, D16 x) {
  return {_mm512_fmadd_pd(x.a, x.a, s.a), _mm512_fmadd_pd(x.b, x.b, s.b)};
}
QC_INLINE double reduce_d(D16 x) { return _mm512_reduce_add_pd(_mm512_add_pd(x.a, x.b)); }
QC_INLINE float reduce_min(F16 x) { return _mm512_reduce_min_ps(x.v); }
QC_INLINE float reduce_max(F16 x) { return _mm512_reduce_max_ps(x.v); }

template <bool kMax>
QC_INLINE __m512 extreme(__m512 x, __m512 y) {
  return kMax ? _mm512_max_ps(x, y) : _mm512_min_ps(x, y);
}
template <bool kMax>
QC_INLINE F16 reduce_each(const F16 (&v)[16]) {
  __m512 quarter[4];  // [j]: four partial results of each of v[j], v[4 + j], v[8 + j] and v[12 + j]
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 a = v[j].v, b = v[4 + j].v, c = v[8 + j].v, d = v[12 + j].v;
    const __m512 ab = extreme<kMax>(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const __m512 cd = extreme<kMax>(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    quarter[j] = extreme<kMax>(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  }
  const __m512 low = extreme<kMax>(_mm512_unpacklo_ps(quarter[0], quarter[1]), _mm512_unpackhi_ps(quarter[0], quarter[1]));
  const __m512 high = extreme<kMax>(_mm512_unpacklo_ps(quarter[2], quarter[3]), _mm512_unpackhi_ps(quarter[2], quarter[3]));
  return {extreme<kMax>(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee))};
}
QC_INLINE F16 reduce_min_each(const F16 (&v)[16]) { return reduce_each<false>(v); }
QC_INLINE F16 reduce_max_each(const F16 (&v)[16]) { return reduce_each<true>(v); }

}  // namespace
}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_ISA_AVX512_SIMD_H_
