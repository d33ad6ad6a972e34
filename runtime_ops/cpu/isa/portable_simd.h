// Sixteen float / int32 lanes as four 16-byte vectors of the compiler (GCC, Clang): SSE2 on any x86-64, NEON on
// aarch64, and whatever else the baseline of the target has.
#ifndef QCOMPILER_CPU_ISA_PORTABLE_SIMD_H_
#define QCOMPILER_CPU_ISA_PORTABLE_SIMD_H_

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define QC_PORTABLE
#define QC_INLINE static inline __attribute__((always_inline))
#define QC_KERNEL

namespace qcompiler {
namespace cpu {
namespace {

typedef float F4 __attribute__((vector_size(16)));
typedef std::int32_t I4 __attribute__((vector_size(16)));
typedef std::uint32_t U4 __attribute__((vector_size(16)));
typedef double D2 __attribute__((vector_size(16)));
typedef std::uint16_t H4 __attribute__((vector_size(8)));

constexpr int kAbreast = 1;  // see vectors.h: these lanes are several vectors already

struct F16 {
  F4 a, b, c, d;
};
struct I16 {
  I4 a, b, c, d;
};

// ---- Four lanes --------------------------------------------------------------------------------------------------

QC_INLINE F4 load4(const float* p) {
  F4 v;
  __builtin_memcpy(&v, p, 16);
  return v;
}
QC_INLINE void store4(float* p, F4 v) { __builtin_memcpy(p, &v, 16); }
QC_INLINE F4 set4(float v) { return F4{v, v, v, v}; }
QC_INLINE I4 set4_i(std::int32_t v) { return I4{v, v, v, v}; }

// The first n lanes; the others are 0 and are not read.
QC_INLINE F4 load4_n(const float* p, int n) {
  if (n >= 4) return load4(p);
  return F4{n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f};
}
QC_INLINE void store4_n(float* p, F4 v, int n) {
  if (n >= 4) return store4(p, v);
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
}

// Bits of p where the mask is all ones, of q where it is zero.
QC_INLINE F4 blend4(I4 mask, F4 p, F4 q) { return (F4)(((I4)p & mask) | ((I4)q & ~mask)); }
QC_INLINE I4 blend4_i(I4 mask, I4 p, I4 q) { return (p & mask) | (q & ~mask); }

QC_INLINE F4 min4(F4 x, F4 y) {
#if defined(__SSE2__)
  return (F4)_mm_min_ps((__m128)x, (__m128)y);
#else
  return blend4(x < y, x, y);
#endif
}
QC_INLINE F4 max4(F4 x, F4 y) {
#if defined(__SSE2__)
  return (F4)_mm_max_ps((__m128)x, (__m128)y);
#else
  return blend4(x > y, x, y);
#endif
}

QC_INLINE I4 sign4(F4 x) { return (I4)x & set4_i(INT32_MIN); }
QC_INLINE F4 absolute4(F4 x) { return (F4)((I4)x & set4_i(INT32_MAX)); }

// To nearest, ties to even: the addition rounds to units, because the spacing of floats at 2^23 is 1. What is larger
// is integral already, and NaN fails the comparison.
QC_INLINE F4 round4(F4 x) {
  const I4 sign = sign4(x);
  const F4 unit = (F4)(sign | (I4)set4(8388608.0f));
  const F4 rounded = (F4)((I4)((x + unit) - unit) | sign);
  return blend4(absolute4(x) < set4(8388608.0f), rounded, x);
}
QC_INLINE F4 ceil4(F4 x) {
  const F4 rounded = round4(x);
  return rounded + (F4)((rounded < x) & (I4)set4(1.0f));
}

QC_INLINE I4 to_int4(F4 x) {
#if defined(__SSE2__)
  return (I4)_mm_cvtps_epi32((__m128)x);
#else
  return __builtin_convertvector(round4(x), I4);
#endif
}
QC_INLINE F4 to_float4(I4 x) { return __builtin_convertvector(x, F4); }
// Modulo 2^32, as the other paths' instructions.
QC_INLINE I4 add4_i(I4 x, I4 y) { return (I4)((U4)x + (U4)y); }
QC_INLINE I4 sub4_i(I4 x, I4 y) { return (I4)((U4)x - (U4)y); }
QC_INLINE I4 mul4_i(I4 x, I4 y) { return (I4)((U4)x * (U4)y); }

QC_INLINE I4 lanes4(int n) { return I4{0, 1, 2, 3} < set4_i(n); }

// float16 has five bits of exponent (bias 15) and ten of mantissa. Shifted up by 13 bits they stand where those of a
// float stand, and the exponent is 112 too small. No step meets a denormal float, which a processor may be told to take
// for zero.
constexpr std::int32_t kHalfExponent = 112 << 23;
constexpr std::int32_t kLeastNormalHalf = kHalfExponent + (1 << 23);  // 2^-14, as a float

QC_INLINE F4 load_half4(const std::uint16_t* p) {
  H4 bits;
  __builtin_memcpy(&bits, p, 8);
  const I4 x = __builtin_convertvector(bits, I4);
  const I4 magnitude = (x & set4_i(0x7fff)) << 13;
  const I4 normal = magnitude + set4_i(kHalfExponent);
  const I4 special = normal + set4_i(kHalfExponent);  // infinity and NaN
  // Below 2^-14 the mantissa has no leading one: given one, it is subtracted again.
  const F4 small = (F4)(magnitude + set4_i(kLeastNormalHalf)) - (F4)set4_i(kLeastNormalHalf);
  I4 bits32 = blend4_i(magnitude < set4_i(1 << 23), (I4)small, normal);
  bits32 = blend4_i(magnitude < set4_i(31 << 23), bits32, special);
  return (F4)((U4)bits32 | ((U4)x & (U4)set4_i(0x8000)) << 16);
}

// To nearest, ties to even.
QC_INLINE void store_half4(std::uint16_t* p, F4 x) {
  const I4 magnitude = (I4)absolute4(x);
  // Half a unit of the last place, less one bit where the last place is even: the carry rounds, up to infinity.
  const I4 odd = magnitude >> 13 & set4_i(1);
  const I4 normal = (magnitude - set4_i(kHalfExponent) + set4_i(0xfff) + odd) >> 13;
  // The spacing of floats from 0.5 on is that of small float16 values: the addition rounds.
  const I4 small = (I4)((F4)magnitude + set4(0.5f)) - (I4)set4(0.5f);
  I4 bits = blend4_i(magnitude < set4_i(kLeastNormalHalf), small, normal);
  bits = blend4_i(magnitude < (I4)set4(65536.0f), bits, set4_i(0x7c00));
  bits = blend4_i(magnitude > set4_i(255 << 23), set4_i(0x7e00), bits);  // NaN
  const U4 all = (U4)bits | (U4)sign4(x) >> 16;
  const H4 narrow = __builtin_convertvector(all, H4);
  __builtin_memcpy(p, &narrow, 8);
}

// ---- Sixteen lanes: the interface of every *_simd.h --------------------------------------------------------------

QC_INLINE F16 load(const float* p) { return {load4(p), load4(p + 4), load4(p + 8), load4(p + 12)}; }
QC_INLINE F16 load_n(const float* p, int n) {
  return {load4_n(p, n), load4_n(p + 4, n - 4), load4_n(p + 8, n - 8), load4_n(p + 12, n - 12)};
}
QC_INLINE void store(float* p, F16 v) {
  store4(p, v.a);
  store4(p + 4, v.b);
  store4(p + 8, v.c);
  store4(p + 12, v.d);
}
QC_INLINE void store_n(float* p, F16 v, int n) {
  store4_n(p, v.a, n);
  store4_n(p + 4, v.b, n - 4);
  store4_n(p + 8, v.c, n - 8);
  store4_n(p + 12, v.d, n - 12);
}
QC_INLINE I16 load_i(const std::int32_t* p) {
  I16 v;
  __builtin_memcpy(&v, p, 64);
  return v;
}
QC_INLINE void store_i(std::int32_t* p, I16 v) { __builtin_memcpy(p, &v, 64); }

// Sixteen float16 values.
QC_INLINE F16 load_half(const std::uint16_t* p) {
  return {load_half4(p), load_half4(p + 4), load_half4(p + 8), load_half4(p + 12)};
}
QC_INLINE void store_half(std::uint16_t* p, F16 v) {
  store_half4(p, v.a);
  store_half4(p + 4, v.b);
  store_half4(p + 8, v.c);
  store_half4(p + 12, v.d);
}

QC_INLINE F16 set(float v) { return {set4(v), set4(v), set4(v), set4(v)}; }
QC_INLINE I16 set_i(std::int32_t v) { return {set4_i(v), set4_i(v), set4_i(v), set4_i(v)}; }
QC_INLINE F16 add(F16 x, F16 y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
QC_INLINE F16 sub(F16 x, F16 y) { return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d}; }
QC_INLINE F16 mul(F16 x, F16 y) { return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d}; }
QC_INLINE F16 div(F16 x, F16 y) { return {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d}; }
// Both return the second operand when one is NaN.
QC_INLINE F16 min(F16 x, F16 y) { return {min4(x.a, y.a), min4(x.b, y.b), min4(x.c, y.c), min4(x.d, y.d)}; }
QC_INLINE F16 max(F16 x, F16 y) { return {max4(x.a, y.a), max4(x.b, y.b), max4(x.c, y.c), max4(x.d, y.d)}; }
QC_INLINE F16 round(F16 x) { return {round4(x.a), round4(x.b), round4(x.c), round4(x.d)}; }  // ties to even
QC_INLINE F16 ceil(F16 x) { return {ceil4(x.a), ceil4(x.b), ceil4(x.c), ceil4(x.d)}; }
QC_INLINE F16 absolute(F16 x) { return {absolute4(x.a), absolute4(x.b), absolute4(x.c), absolute4(x.d)}; }
QC_INLINE F4 copy_sign4(F4 x, F4 sign) { return (F4)((I4)x | sign4(sign)); }
QC_INLINE F16 copy_sign(F16 x, F16 sign) {  // x >= 0
  return {copy_sign4(x.a, sign.a), copy_sign4(x.b, sign.b), copy_sign4(x.c, sign.c), copy_sign4(x.d, sign.d)};
}
// x < y ? p : q, lane by lane.
QC_INLINE F16 select_less(F16 x, F16 y, F16 p, F16 q) {
  return {blend4(x.a < y.a, p.a, q.a), blend4(x.b < y.b, p.b, q.b), blend4(x.c < y.c, p.c, q.c),
          blend4(x.d < y.d, p.d, q.d)};
}
QC_INLINE I16 select_less_i(F16 x, F16 y, I16 p, I16 q) {
  return {blend4_i(x.a < y.a, p.a, q.a), blend4_i(x.b < y.b, p.b, q.b), blend4_i(x.c < y.c, p.c, q.c),
          blend4_i(x.d < y.d, p.d, q.d)};
}
// Lanes from n on replaced by `fill`.
QC_INLINE F16 keep_n(F16 x, int n, F16 fill) {
  return {blend4(lanes4(n), x.a, fill.a), blend4(lanes4(n - 4), x.b, fill.b), blend4(lanes4(n - 8), x.c, fill.c),
          blend4(lanes4(n - 12), x.d, fill.d)};
}

template <int kHalf>
QC_INLINE F4 exchange4(F4 x) {
  return kHalf == 1 ? F4{x[1], x[0], x[3], x[2]} : F4{x[2], x[3], x[0], x[1]};
}
// Lanes kHalf apart (1, 2, 4 or 8) in each other's place.
template <int kHalf>
QC_INLINE F16 exchange(F16 x) {
  if constexpr (kHalf == 8) return {x.c, x.d, x.a, x.b};
  if constexpr (kHalf == 4) return {x.b, x.a, x.d, x.c};
  return {exchange4<kHalf>(x.a), exchange4<kHalf>(x.b), exchange4<kHalf>(x.c), exchange4<kHalf>(x.d)};
}
// Inside four lanes the partner is added to the lane with its own sign: -x + y is y - x.
template <int kHalf>
QC_INLINE F4 butterfly4(F4 x) {
  constexpr std::int32_t kMinus = INT32_MIN;
  const I4 flip = kHalf == 1 ? I4{0, kMinus, 0, kMinus} : I4{0, 0, kMinus, kMinus};
  return (F4)((I4)x ^ flip) + exchange4<kHalf>(x);
}
// Sums and differences of lanes kHalf apart, for every lane i without the bit kHalf:
// (x[i], x[i + kHalf]) <- (x[i] + x[i + kHalf], x[i] - x[i + kHalf]).
template <int kHalf>
QC_INLINE F16 butterfly(F16 x) {
  if constexpr (kHalf == 8) {
    return {x.a + x.c, x.b + x.d, x.a - x.c, x.b - x.d};
  } else if constexpr (kHalf == 4) {
    return {x.a + x.b, x.a - x.b, x.c + x.d, x.c - x.d};
  } else {
    return {butterfly4<kHalf>(x.a), butterfly4<kHalf>(x.b), butterfly4<kHalf>(x.c), butterfly4<kHalf>(x.d)};
  }
}

QC_INLINE I16 to_int(F16 x) { return {to_int4(x.a), to_int4(x.b), to_int4(x.c), to_int4(x.d)}; }  // ties to even
QC_INLINE F16 to_float(I16 x) { return {to_float4(x.a), to_float4(x.b), to_float4(x.c), to_float4(x.d)}; }
QC_INLINE I16 add_i(I16 x, I16 y) {
  return {add4_i(x.a, y.a), add4_i(x.b, y.b), add4_i(x.c, y.c), add4_i(x.d, y.d)};
}
QC_INLINE I16 sub_i(I16 x, I16 y) {
  return {sub4_i(x.a, y.a), sub4_i(x.b, y.b), sub4_i(x.c, y.c), sub4_i(x.d, y.d)};
}
QC_INLINE I16 mul_i(I16 x, I16 y) {
  return {mul4_i(x.a, y.a), mul4_i(x.b, y.b), mul4_i(x.c, y.c), mul4_i(x.d, y.d)};
}
QC_INLINE F4 power_of_two4(F4 n) { return (F4)((U4)add4_i(to_int4(n), set4_i(127)) << 23); }
// x * 2^n for -126 <= n <= 127, n given as an integral float.
QC_INLINE F16 scale(F16 x, F16 n) {
  return mul(x, {power_of_two4(n.a), power_of_two4(n.b), power_of_two4(n.c), power_of_two4(n.d)});
}

// Low bytes of the lanes; they must lie in [-256, 255].
QC_INLINE void store_bytes(std::uint8_t* p, I16 v) {
#if defined(__SSE2__)
  const __m128i low = _mm_set1_epi32(255);
  const __m128i ab = _mm_packs_epi32(_mm_and_si128((__m128i)v.a, low), _mm_and_si128((__m128i)v.b, low));
  const __m128i cd = _mm_packs_epi32(_mm_and_si128((__m128i)v.c, low), _mm_and_si128((__m128i)v.d, low));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(ab, cd));
#else
  std::int32_t lanes[16];
  store_i(lanes, v);
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(lanes[i]);
#endif
}

// Bytes of 64 lanes, clipped to [-127, 127], + offset.
QC_INLINE void store_clipped(std::uint8_t* p, const I16 (&v)[4], int offset) {
#if defined(__SSE2__)
  const __m128i lowest = _mm_set1_epi16(-127), more = _mm_set1_epi8(static_cast<char>(offset));
  for (int i = 0; i < 4; ++i) {
    const __m128i ab = _mm_max_epi16(_mm_packs_epi32((__m128i)v[i].a, (__m128i)v[i].b), lowest);
    const __m128i cd = _mm_max_epi16(_mm_packs_epi32((__m128i)v[i].c, (__m128i)v[i].d), lowest);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16 * i), _mm_add_epi8(_mm_packs_epi16(ab, cd), more));
  }
#else
  std::int32_t lanes[64];
  for (int i = 0; i < 4; ++i) store_i(lanes + 16 * i, v[i]);
  for (int i = 0; i < 64; ++i) {
    const std::int32_t clipped = lanes[i] < -127 ? -127 : lanes[i] > 127 ? 127 : lanes[i];
    p[i] = static_cast<std::uint8_t>(clipped + offset);
  }
#endif
}

// Sixteen sums in double: rounded to float once at the end, they do not depend on the order of the additions.
struct D4 {
  D2 low, high;
};
struct D16 {
  D4 a, b, c, d;
};
QC_INLINE D4 widen4(F4 x) {
#if defined(__SSE2__)
  return {(D2)_mm_cvtps_pd((__m128)x), (D2)_mm_cvtps_pd(_mm_movehl_ps((__m128)x, (__m128)x))};
#else
  return {D2{x[0], x[1]}, D2{x[2], x[3]}};
#endif
}
QC_INLINE D4 add4_d(D4 x, D4 y) { return {x.low + y.low, x.high + y.high}; }
QC_INLINE D4 sub4_d(D4 x, D2 y) { return {x.low - y, x.high - y}; }
QC_INLINE D4 add_square4_d(D4 s, D4 x) { return {s.low + x.low * x.low, s.high + x.high * x.high}; }
QC_INLINE D16 zero_d() {
  const D4 zero = {D2{0.0, 0.0}, D2{0.0, 0.0}};
  return {zero, zero, zero, zero};
}
QC_INLINE D16 widen(F16 x) { return {widen4(x.a), widen4(x.b), widen4(x.c), widen4(x.d)}; }
QC_INLINE D16 add_d(D16 s, D16 x) {
  return {add4_d(s.a, x.a), add4_d(s.b, x.b), add4_d(s.c, x.c), add4_d(s.d, x.d)};
}
QC_INLINE D16 sub_d(D16 x, double y) {
  const D2 v = {y, y};
  return {sub4_d(x.a, v), sub4_d(x.b, v), sub4_d(x.c, v), sub4_d(x.d, v)};
}
QC_INLINE D16 add_square_d(D16 s, D16 x) {
  return {add_square4_d(s.a, x.a), add_square4_d(s.b, x.b), add_square4_d(s.c, x.c), add_square4_d(s.d, x.d)};
}
QC_INLINE double reduce_d(D16 x) {
  const D4 s = add4_d(add4_d(x.a, x.b), add4_d(x.c, x.d));
  const D2 t = s.low + s.high;
  return t[0] + t[1];
}
QC_INLINE float reduce_min(F16 x) {
  const F4 v = min4(min4(x.a, x.b), min4(x.c, x.d));
  const float low = v[0] < v[1] ? v[0] : v[1], high = v[2] < v[3] ? v[2] : v[3];
  return low < high ? low : high;
}
QC_INLINE float reduce_max(F16 x) {
  const F4 v = max4(max4(x.a, x.b), max4(x.c, x.d));
  const float low = v[0] > v[1] ? v[0] : v[1], high = v[2] > v[3] ? v[2] : v[3];
  return low > high ? low : high;
}
QC_INLINE F16 reduce_min_each(const F16 (&v)[16]) {
  float r[16];
  for (int i = 0; i < 16; ++i) r[i] = reduce_min(v[i]);
  return load(r);
}
QC_INLINE F16 reduce_max_each(const F16 (&v)[16]) {
  float r[16];
  for (int i = 0; i < 16; ++i) r[i] = reduce_max(v[i]);
  return load(r);
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_ISA_PORTABLE_SIMD_H_
