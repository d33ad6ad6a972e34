// float16 values in registers and back in memory: every one of them, borders between neighbours, one at a time and four.
#include <cmath>

#include "../../cuda/activations.cuh"
#include "../../reference/reference.h"
#include "harness.h"

using namespace qcompiler::cuda;
namespace reference = qcompiler::reference;

namespace {

template <int kVector>
QC_KERNEL read_halves(const Half* from, float* to) {
  const int at = (static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x)) * kVector;
  store_lanes(to + at, load_lanes<kVector>(from + at));
}

template <int kVector>
QC_KERNEL write_halves(const float* from, Half* to) {
  const int at = (static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x)) * kVector;
  store_lanes(to + at, load_lanes<kVector>(from + at));
}

template <int kVector>
void check_lanes(const std::vector<Half>& halves, const std::vector<float>& floats) {
  const DeviceArray<Half> device_halves(halves), halves_out(std::vector<Half>(floats.size()));
  const DeviceArray<float> device_floats(floats), floats_out(std::vector<float>(halves.size()));
  const auto grid = [](std::size_t count) { return dim3(static_cast<unsigned>(count) / (kWarp * kVector)); };
  const Half* const from_halves = device_halves.data();
  const float* const from_floats = device_floats.data();
  Status status =
      launch("read", read_halves<kVector>, grid(halves.size()), kWarp, 0, nullptr, from_halves, floats_out.data());
  CHECK(status == nullptr, "%s", status);
  status =
      launch("write", write_halves<kVector>, grid(floats.size()), kWarp, 0, nullptr, from_floats, halves_out.data());
  CHECK(status == nullptr, "%s", status);
  const std::vector<float> read = floats_out.read();
  for (std::size_t i = 0; i < read.size(); ++i) {
    const float want = reference::from_half(halves[i]);
    const bool equal = read[i] == want && std::signbit(read[i]) == std::signbit(want);
    CHECK(std::isnan(want) ? std::isnan(read[i]) : equal, "%d at a time, float16 %#x: %g", kVector, halves[i].bits, static_cast<double>(read[i]));
  }
  const std::vector<Half> written = halves_out.read();
  for (std::size_t i = 0; i < written.size(); ++i) {
    const int want = reference::to_half(floats[i]).bits, got = written[i].bits;
    CHECK(std::isnan(floats[i]) ? (got & 0x7fff) > 0x7c00 : got == want, "%d at a time, %a: %#x, not %#x", kVector,
          static_cast<double>(floats[i]), got, want);
  }
}

}  // namespace

void test_activations() {
  std::vector<Half> halves;
  for (int bits = 0; bits < 65536; ++bits) halves.push_back({static_cast<std::uint16_t>(bits)});
  std::vector<float> floats;
  for (std::size_t i = 0; i + 1 < 0x7c00; ++i) {
    const float border = (reference::from_half(halves[i]) + reference::from_half(halves[i + 1])) / 2;
    for (const float v : {border, std::nextafter(border, 0.0f), -std::nextafter(border, INFINITY)}) floats.push_back(v);
  }
  for (const float v : {65519.99f, 65520.0f, -1e9f, INFINITY, -INFINITY, NAN, 1e-45f}) floats.push_back(v);
  floats.resize((floats.size() + 4 * kWarp - 1) / (4 * kWarp) * (4 * kWarp));
  check_lanes<1>(halves, floats);
  check_lanes<4>(halves, floats);
}
