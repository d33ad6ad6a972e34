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

// The portable lanes are several vectors already.
#if defined(QC_PORTABLE)
constexpr int kAbreast = 1;
#else
constexpr int kAbreast = 4;
#endif
constexpr int kWide = 16 * kAbreast;  // lanes

#define QC_EACH _Pragma("GCC unroll 4") for (int i = 0; i < kN; ++i)

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
template <int kN>
QC_INLINE Integers<kN> load_integers(const std::int32_t* p) {
  Integers<kN> r;
  QC_EACH r.v[i] = load_i(p + 16 * i);
  return r;
}

// All of x before anything that uses it. After additions only: every step of a polynomial has one, and more of them
// would make the compiler move values to memory and back.
template <int kN>
QC_INLINE Floats<kN> abreast(Floats<kN> x) {
  if constexpr (kN == 4) keep_together(x.v[0], x.v[1], x.v[2], x.v[3]);
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
QC_UNARY(power_of_two)
QC_BINARY(add, abreast)
QC_BINARY(sub, )
QC_BINARY(mul, )
QC_BINARY(div, )
QC_BINARY(min, )
QC_BINARY(max, )
QC_BINARY(copy_sign, )
#undef QC_UNARY
#undef QC_BINARY

// x - y * z
template <int kN>
QC_INLINE Integers<kN> sub_product_i(const Integers<kN>& x, I16 y, const Integers<kN>& z) {
  Integers<kN> r;
  QC_EACH r.v[i] = sub_i(x.v[i], mul_i(y, z.v[i]));
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
