// Activations in memory: float, or float16 in half the bytes. In registers they are float, always.
#ifndef QCOMPILER_CUDA_ACTIVATIONS_CUH_
#define QCOMPILER_CUDA_ACTIVATIONS_CUH_

#include "device.h"

namespace qcompiler {
namespace cuda {

using cpu::Half;

QC_DEVICE float load_value(const float* p) { return *p; }
QC_DEVICE float load_value(const Half* p) { return from_half_bits(p->bits); }
QC_DEVICE void store_value(float* p, float x) { *p = x; }
// To nearest, ties to even.
QC_DEVICE void store_value(Half* p, float x) { p->bits = to_half_bits(x); }

// kVector neighbouring values, 1 or 4. Four of them are one access, aligned to its size.
template <int kVector>
struct Lanes {
  float v[kVector];
};

template <int kVector>
QC_DEVICE Lanes<kVector> load_lanes(const float* p) {
  Lanes<kVector> r;
  if constexpr (kVector == 4) {
    const float4 q = *reinterpret_cast<const float4*>(p);
    r.v[0] = q.x;
    r.v[1] = q.y;
    r.v[2] = q.z;
    r.v[3] = q.w;
  } else {
    r.v[0] = *p;
  }
  return r;
}
template <int kVector>
QC_DEVICE Lanes<kVector> load_lanes(const Half* p) {
  Lanes<kVector> r;
  if constexpr (kVector == 4) {
    const uint2 q = *reinterpret_cast<const uint2*>(p);
    r.v[0] = from_half_bits(static_cast<unsigned short>(q.x));
    r.v[1] = from_half_bits(static_cast<unsigned short>(q.x >> 16));
    r.v[2] = from_half_bits(static_cast<unsigned short>(q.y));
    r.v[3] = from_half_bits(static_cast<unsigned short>(q.y >> 16));
  } else {
    r.v[0] = load_value(p);
  }
  return r;
}

template <int kVector>
QC_DEVICE void store_lanes(float* p, const Lanes<kVector>& x) {
  if constexpr (kVector == 4) {
    *reinterpret_cast<float4*>(p) = float4{x.v[0], x.v[1], x.v[2], x.v[3]};
  } else {
    *p = x.v[0];
  }
}
template <int kVector>
QC_DEVICE void store_lanes(Half* p, const Lanes<kVector>& x) {
  if constexpr (kVector == 4) {
    const unsigned low = to_half_bits(x.v[0]) | static_cast<unsigned>(to_half_bits(x.v[1])) << 16;
    const unsigned high = to_half_bits(x.v[2]) | static_cast<unsigned>(to_half_bits(x.v[3])) << 16;
    *reinterpret_cast<uint2*>(p) = uint2{low, high};
  } else {
    store_value(p, x.v[0]);
  }
}

// Whether four neighbours of these can be one access; nullptr can.
template <typename T>
inline bool aligned_in_fours(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % (4 * sizeof(T)) == 0;
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_ACTIVATIONS_CUH_
