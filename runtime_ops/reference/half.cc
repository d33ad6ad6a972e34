#include <algorithm>
#include <cmath>
#include <limits>

#include "reference.h"

namespace qcompiler {
namespace reference {
namespace {

constexpr int kMantissa = 10, kLeastExponent = -14;
constexpr std::uint16_t kSign = 0x8000, kInfinity = 0x7c00, kNan = 0x7e00;

}  // namespace

float from_half(cpu::Half x) {
  const int exponent = x.bits >> kMantissa & 31, mantissa = x.bits & ((1 << kMantissa) - 1);
  double value = 0.0;
  if (exponent == 31) {
    value = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, kLeastExponent - kMantissa);
  } else {
    value = std::ldexp((1 << kMantissa) + mantissa, exponent - 15 - kMantissa);
  }
  return static_cast<float>((x.bits & kSign) != 0 ? -value : value);
}

cpu::Half to_half(float x) {
  const int sign = std::signbit(x) ? kSign : 0;
  const double magnitude = std::fabs(static_cast<double>(x));
  int bits = 0;
  if (std::isnan(x)) {
    bits = kNan;
  } else if (magnitude >= 65520.0) {  // half way from the largest float16 to the next power of two
    bits = kInfinity;
  } else if (magnitude > 0.0) {
    const int exponent = std::max(std::ilogb(magnitude), kLeastExponent);
    // A leading one, where there is one, adds one to the exponent, and so does what is rounded up to the next power.
    bits = ((exponent - kLeastExponent) << kMantissa) +
           static_cast<int>(std::nearbyint(std::ldexp(magnitude, kMantissa - exponent)));
  }
  return {static_cast<std::uint16_t>(sign | bits)};
}

}  // namespace reference
}  // namespace qcompiler
