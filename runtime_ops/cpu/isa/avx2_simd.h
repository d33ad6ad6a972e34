// Sixteen float / int32 lanes as two ymm registers. Unnamed namespace and no library headers: see stages.h.
#ifndef QCOMPILER_CPU_ISA_AVX2_SIMD_H_
#define QCOMPILER_CPU_ISA_AVX2_SIMD_H_

#include <immintrin.h>

#include <cstdint>

#define QC_TARGET "avx2,fma,f16c"
#define QC_INLINE static inline __attribute__((always_inline, target(QC_TARGET)))
#define QC_KERNEL __attribute__((target(QC_TARGET)))

namespace qcompiler {
namespace cpu {
namespace {

struct F16 {
  __m256 a, b;
};
struct I16 {
  __m256i a, b;
};

// Sliding a window over this gives a mask of the first n of 8 lanes.
alignas(32) const std::int32_t kMaskSource[24] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                                  -1, -1, -1, -1, 0,  0,  0,  0,  0,  0,  0,  0};

QC_INLINE __m256i lane_mask8(int n) {
  const int count = n < 0 ? 0 : (n > 8 ? 8 : n);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMaskSource + 16 - count));
}

QC_INLINE F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
QC_INLINE F16 load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, lane_mask8(n)),
          n > 8 ? _mm256_maskload_ps(p + 8, lane_mask8(n - 8)) : _mm256_setzero_ps()};
}
QC_INLINE void store(float* p, F16 v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
QC_INLINE void store_n(float* p, F16 v, int n) {
  _mm256_maskstore_ps(p, lane_mask8(n), v.a);
  if (n > 8) _mm256_maskstore_ps(p + 8, lane_mask8(n - 8), v.b);
}
QC_INLINE I16 load_i(const std::int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
QC_INLINE void store_i(std::int32_t* p, I16 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), v.b);
}

// Sixteen float16 values; neither direction looks at the processor's rounding mode or treatment of denormals.
QC_INLINE F16 load_half(const std::uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
QC_INLINE void store_half(std::uint16_t* p, F16 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}

constexpr int kAbreast = 4;  // vectors of sixteen that go through the same steps side by side, see vectors.h

// Keeps the compiler from finishing one chain of operations before it starts the next.
QC_INLINE void keep_together(F16 (&x)[kAbreast]) {
  __asm__("" : "+x"(x[0].a), "+x"(x[0].b), "+x"(x[1].a), "+x"(x[1].b), "+x"(x[2].a), "+x"(x[2].b), "+x"(x[3].a), "+x"(x[3].b));
}

QC_INLINE F16 set(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
QC_INLINE I16 set_i(std::int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
QC_INLINE F16 add(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
QC_INLINE F16 sub(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
QC_INLINE F16 mul(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
QC_INLINE F16 div(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
// Both return the second operand when one is NaN.
QC_INLINE F16 min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
QC_INLINE F16 max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
QC_INLINE F16 sqrt(F16 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
QC_INLINE F16 round(F16 x) {  // to nearest, ties to even
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
QC_INLINE F16 ceil(F16 x) {
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)};
}
QC_INLINE F16 absolute(F16 x) {
  const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}
QC_INLINE F16 copy_sign(F16 x, F16 sign) {  // x >= 0
  const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0x80000000u)));
  return {_mm256_or_ps(x.a, _mm256_and_ps(sign.a, m)), _mm256_or_ps(x.b, _mm256_and_ps(sign.b, m))};
}
// x < y ? p : q, lane by lane.
QC_INLINE F16 select_less(F16 x, F16 y, F16 p, F16 q) {
  return {_mm256_blendv_ps(q.a, p.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(q.b, p.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
QC_INLINE I16 select_less_i(F16 x, F16 y, I16 p, I16 q) {
  return {_mm256_blendv_epi8(q.a, p.a, _mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ))),
          _mm256_blendv_epi8(q.b, p.b, _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)))};
}
// Lanes from n on replaced by `fill`.
QC_INLINE F16 keep_n(F16 x, int n, F16 fill) {
  return {_mm256_blendv_ps(fill.a, x.a, _mm256_castsi256_ps(lane_mask8(n))),
          _mm256_blendv_ps(fill.b, x.b, _mm256_castsi256_ps(lane_mask8(n - 8)))};
}

// Lanes kHalf apart (1, 2, 4 or 8) in each other's place.
template <int kHalf>
QC_INLINE F16 exchange(F16 x) {
  if constexpr (kHalf == 8) return {x.b, x.a};
  if constexpr (kHalf == 4) return {_mm256_permute2f128_ps(x.a, x.a, 1), _mm256_permute2f128_ps(x.b, x.b, 1)};
  constexpr int kSwap = kHalf == 1 ? 0xb1 : 0x4e;
  return {_mm256_permute_ps(x.a, kSwap), _mm256_permute_ps(x.b, kSwap)};
}
// Sums and differences of lanes kHalf apart, for every lane i without the bit kHalf:
// (x[i], x[i + kHalf]) <- (x[i] + x[i + kHalf], x[i] - x[i + kHalf]).
template <int kHalf>
QC_INLINE F16 butterfly(F16 x) {
  if constexpr (kHalf == 8) {
    return {_mm256_add_ps(x.a, x.b), _mm256_sub_ps(x.a, x.b)};
  } else {
    const F16 y = exchange<kHalf>(x);
    // y + -x in the upper lanes: exactly y - x, and an operation less than a blend of sums and differences.
    constexpr float l = 0.0f, u = -0.0f;
    const __m256 upper = kHalf == 1   ? _mm256_setr_ps(l, u, l, u, l, u, l, u)
                         : kHalf == 2 ? _mm256_setr_ps(l, l, u, u, l, l, u, u)
                                      : _mm256_setr_ps(l, l, l, l, u, u, u, u);
    return {_mm256_add_ps(y.a, _mm256_xor_ps(x.a, upper)), _mm256_add_ps(y.b, _mm256_xor_ps(x.b, upper))};
  }
}

QC_INLINE I16 to_int(F16 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }  // ties to even
QC_INLINE F16 to_float(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
QC_INLINE I16 add_i(I16 x, I16 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
QC_INLINE I16 sub_i(I16 x, I16 y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
QC_INLINE I16 mul_i(I16 x, I16 y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
// x * 2^n for -126 <= n <= 127, n given as an integral float.
QC_INLINE F16 scale(F16 x, F16 n) {
  const I16 e = add_i(to_int(n), set_i(127));
  return mul(x, {_mm256_castsi256_ps(_mm256_slli_epi32(e.a, 23)), _mm256_castsi256_ps(_mm256_slli_epi32(e.b, 23))});
}

// Low bytes of the lanes; they must lie in [-256, 255].
QC_INLINE void store_bytes(std::uint8_t* p, I16 v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
  const __m256i low = _mm256_and_si256(words, _mm256_set1_epi16(255));
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

// Bytes of 64 lanes, clipped to [-127, 127], + offset.
QC_INLINE void store_clipped(std::uint8_t* p, const I16 (&v)[4], int offset) {
  // Packing works within 128 bits: four bytes of each vector in turn.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i lowest = _mm256_set1_epi8(-127), more = _mm256_set1_epi8(static_cast<char>(offset));
#pragma GCC unroll 2
  for (int i = 0; i < 4; i += 2) {
    const __m256i words = _mm256_packs_epi32(v[i].a, v[i].b), others = _mm256_packs_epi32(v[i + 1].a, v[i + 1].b);
    const __m256i clipped = _mm256_max_epi8(_mm256_packs_epi16(words, others), lowest);
    const __m256i bytes = _mm256_permutevar8x32_epi32(clipped, order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16 * i), _mm256_add_epi8(bytes, more));
  }
}

QC_INLINE float reduce_add(F16 x) {
  const __m256 s = _mm256_add_ps(x.a, x.b);
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
// Sixteen sums in double: rounded to float once at the end, they do not depend on the order of the additions.
struct D16 {
  __m256d a, b, c, d;
};
QC_INLINE D16 zero_d() { return {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()}; }
QC_INLINE D16 widen(F16 x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x.a)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.a, 1)),
          _mm256_cvtps_pd(_mm256_castps256_ps128(x.b)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.b, 1))};
}
QC_INLINE D16 add_d(D16 s, D16 x) {
  return {_mm256_add_pd(s.a, x.a), _mm256_add_pd(s.b, x.b), _mm256_add_pd(s.c, x.c), _mm256_add_pd(s.d, x.d)};
}
QC_INLINE D16 sub_d(D16 x, double y) {
  const __m256d v = _mm256_set1_pd(y);
  return {_mm256_sub_pd(x.a, v), _mm256_sub_pd(x.b, v), _mm256_sub_pd(x.c, v), _mm256_sub_pd(x.d, v)};
}
QC_INLINE D16 add_square_d(D16 s, D16 x) {
  return {_mm256_fmadd_pd(x.a, x.a, s.a), _mm256_fmadd_pd(x.b, x.b, s.b), _mm256_fmadd_pd(x.c, x.c, s.c),
          _mm256_fmadd_pd(x.d, x.d, s.d)};
}
QC_INLINE double reduce_d(D16 x) {
  const __m256d s = _mm256_add_pd(_mm256_add_pd(x.a, x.b), _mm256_add_pd(x.c, x.d));
  const __m128d t = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
  return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}
QC_INLINE float reduce_min(F16 x) {
  const __m256 s = _mm256_min_ps(x.a, x.b);
  __m128 t = _mm_min_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_min_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_min_ss(t, _mm_movehdup_ps(t)));
}
QC_INLINE float reduce_max(F16 x) {
  const __m256 s = _mm256_max_ps(x.a, x.b);
  __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_max_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

template <bool kMax>
QC_INLINE __m256 extreme(__m256 x, __m256 y) {
  return kMax ? _mm256_max_ps(x, y) : _mm256_min_ps(x, y);
}
template <bool kMax>
QC_INLINE __m256 reduce_eight(const F16* v) {
  __m256 pair[4];  // [i]: partial results of v[2 i] and v[2 i + 1] in turn
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256 x = extreme<kMax>(v[2 * i].a, v[2 * i].b), y = extreme<kMax>(v[2 * i + 1].a, v[2 * i + 1].b);
    pair[i] = extreme<kMax>(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
  }
  const __m256 low = extreme<kMax>(_mm256_shuffle_ps(pair[0], pair[1], 0x44), _mm256_shuffle_ps(pair[0], pair[1], 0xee));
  const __m256 high = extreme<kMax>(_mm256_shuffle_ps(pair[2], pair[3], 0x44), _mm256_shuffle_ps(pair[2], pair[3], 0xee));
  return extreme<kMax>(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}
// Lane i: the least or largest lane of v[i], none of them NaN. Sixteen at once cost a third of one by one.
QC_INLINE F16 reduce_min_each(const F16 (&v)[16]) { return {reduce_eight<false>(v), reduce_eight<false>(v + 8)}; }
QC_INLINE F16 reduce_max_each(const F16 (&v)[16]) { return {reduce_eight<true>(v), reduce_eight<true>(v + 8)}; }

}  // namespace
}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_ISA_AVX2_SIMD_H_
