// Several vectors that go through the same steps side by side. The operations of exp and erf form long chains, each
// waiting for the one before; a processor looks ahead too little to overlap one chain with the next by itself.

namespace qcompiler {
namespace cpu {
namespace {

template <int kN>
struct Floats {
  F16 v[kN];
};
template <int kN>
struct Integers {
  I16 v[kN];
};

constexpr int kWide = 16 * kAbreast;  // lanes

#define QC_EACH _Pragma("GCC unroll 8") for (int i = 0; i < kN; ++i)

template <int kN>
QC_INLINE Floats<kN> load_floats(const float* p) {
  Floats<kN> r;
  QC_EACH r.v[i] = load(p + 16 * i);
  return r;
}
template <int kN>
QC_INLINE void store(float* p, const Floats<kN>& x) {
  QC_EACH store(p + 16 * i, x.v[i]);
}

// kN vectors of each of kRows rows, `ld` apart.
#define QC_EACH_OF_ROWS _Pragma("GCC unroll 8") for (int i = 0; i < kRows * kN; ++i)
template <int kRows, int kN>
QC_INLINE Floats<kRows * kN> load_rows(const float* p, std::ptrdiff_t ld) {
  Floats<kRows * kN> r;
  QC_EACH_OF_ROWS r.v[i] = load(p + i / kN * ld + i % kN * 16);
  return r;
}
template <int kRows, int kN>
QC_INLINE Integers<kRows * kN> load_rows_i(const std::int32_t* p, std::ptrdiff_t ld) {
  Integers<kRows * kN> r;
  QC_EACH_OF_ROWS r.v[i] = load_i(p + i / kN * ld + i % kN * 16);
  return r;
}
template <int kRows, int kN>
QC_INLINE void store_rows(float* p, std::ptrdiff_t ld, const Floats<kRows * kN>& x) {
  QC_EACH_OF_ROWS store(p + i / kN * ld + i % kN * 16, x.v[i]);
}
// One value per row, in all of its lanes.
template <int kRows, int kN>
QC_INLINE Floats<kRows * kN> spread_rows(const float* p) {
  Floats<kRows * kN> r;
  QC_EACH_OF_ROWS r.v[i] = set(p[i / kN]);
  return r;
}
template <int kRows, int kN>
QC_INLINE Integers<kRows * kN> spread_rows_i(const std::int32_t* p) {
  Integers<kRows * kN> r;
  QC_EACH_OF_ROWS r.v[i] = set_i(p[i / kN]);
  return r;
}
#undef QC_EACH_OF_ROWS

// All of x before anything that uses it. After additions only: every step of a polynomial has one, and more of them
// would make the compiler move values to memory and back.
template <int kN>
QC_INLINE Floats<kN> abreast(Floats<kN> x) {
  if constexpr (kN == kAbreast && kN > 1) keep_together(x.v);
  return x;
}

#define QC_UNARY(name)                             \
  template <int kN>                                \
  QC_INLINE Floats<kN> name(const Floats<kN>& x) { \
    Floats<kN> r;                                  \
    QC_EACH r.v[i] = name(x.v[i]);                 \
    return r;                                      \
  }
// One operand may be a vector that all share.
#define QC_BINARY(name, finish)                                         \
  template <int kN>                                                     \
  QC_INLINE Floats<kN> name(const Floats<kN>& x, const Floats<kN>& y) { \
    Floats<kN> r;                                                       \
    QC_EACH r.v[i] = name(x.v[i], y.v[i]);                              \
    return finish(r);                                                   \
  }                                                                     \
  template <int kN>                                                     \
  QC_INLINE Floats<kN> name(const Floats<kN>& x, F16 y) {               \
    Floats<kN> r;                                                       \
    QC_EACH r.v[i] = name(x.v[i], y);                                   \
    return finish(r);                                                   \
  }                                                                     \
  template <int kN>                                                     \
  QC_INLINE Floats<kN> name(F16 x, const Floats<kN>& y) {               \
    Floats<kN> r;                                                       \
    QC_EACH r.v[i] = name(x, y.v[i]);                                   \
    return finish(r);                                                   \
  }
QC_UNARY(round)
QC_UNARY(absolute)
QC_BINARY(add, abreast)
QC_BINARY(sub, )
QC_BINARY(mul, )
QC_BINARY(div, )
QC_BINARY(min, )
QC_BINARY(max, )
QC_BINARY(copy_sign, )
QC_BINARY(scale, )
#undef QC_UNARY
#undef QC_BINARY

template <int kN>
QC_INLINE Integers<kN> sub_i(const Integers<kN>& x, const Integers<kN>& y) {
  Integers<kN> r;
  QC_EACH r.v[i] = sub_i(x.v[i], y.v[i]);
  return r;
}
template <int kN>
QC_INLINE Integers<kN> mul_i(const Integers<kN>& x, const Integers<kN>& y) {
  Integers<kN> r;
  QC_EACH r.v[i] = mul_i(x.v[i], y.v[i]);
  return r;
}
template <int kN>
QC_INLINE Floats<kN> to_float(const Integers<kN>& x) {
  Floats<kN> r;
  QC_EACH r.v[i] = to_float(x.v[i]);
  return r;
}
#undef QC_EACH

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
