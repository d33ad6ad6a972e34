// float16 tensors: to float before an operator, and back behind it.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void from_half(const Half* x, std::ptrdiff_t count, float* out) {
  const auto* const bits = reinterpret_cast<const std::uint16_t*>(x);
  const std::ptrdiff_t full = count & ~std::ptrdiff_t{15};
  for (std::ptrdiff_t i = 0; i < full; i += 16) store(out + i, load_half(bits + i));
  const std::ptrdiff_t left = count - full;
  if (left == 0) return;
  std::uint16_t rest[16] = {};
  __builtin_memcpy(rest, bits + full, static_cast<std::size_t>(left) * sizeof(Half));
  store_n(out + full, load_half(rest), static_cast<int>(left));
}

QC_KERNEL void to_half(const float* x, std::ptrdiff_t count, Half* out) {
  auto* const bits = reinterpret_cast<std::uint16_t*>(out);
  const std::ptrdiff_t full = count & ~std::ptrdiff_t{15};
  for (std::ptrdiff_t i = 0; i < full; i += 16) store_half(bits + i, load(x + i));
  const std::ptrdiff_t left = count - full;
  if (left == 0) return;
  std::uint16_t rest[16];
  store_half(rest, load_n(x + full, static_cast<int>(left)));
  __builtin_memcpy(bits + full, rest, static_cast<std::size_t>(left) * sizeof(Half));
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
