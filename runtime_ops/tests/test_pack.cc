// Packed panels hold what the layout in path.h says, in both formats and from both orientations.
#include "../cpu/pack.h"
#include "check.h"

using namespace qcompiler::cpu;

namespace {

int packed_at(const PanelFormat& format, const std::vector<char>& out, int k, int n, int depth_k) {
  const char* panel = out.data() + n / 16 * format.stride(depth_k);
  if (format.wide) return reinterpret_cast<const std::int16_t*>(panel)[(k / 2 * 16 + n % 16) * 2 + k % 2];
  return reinterpret_cast<const std::int8_t*>(panel)[(k / 4 * 16 + n % 16) * 4 + k % 4];
}

void check_shape(int k, int n, bool wide, int multiple) {
  Random random(static_cast<std::uint64_t>(k * 1000 + n));
  PanelFormat format;
  format.wide = wide;
  format.depth_multiple = multiple;
  std::vector<std::int8_t> b(static_cast<std::size_t>(k * n)), bt(b.size());
  std::vector<std::int32_t> order(static_cast<std::size_t>(k));
  for (int i = 0; i < k; ++i) {
    order[static_cast<std::size_t>(i)] = i % 5 == 4 ? -1 : k - 1 - i;
    for (int j = 0; j < n; ++j) {
      const std::int8_t value = static_cast<std::int8_t>(random.integer(-128, 127));
      b[static_cast<std::size_t>(i * n + j)] = value;
      bt[static_cast<std::size_t>(j * k + i)] = value;
    }
  }
  const std::size_t bytes = static_cast<std::size_t>(format.bytes(k, n));
  std::vector<char> rows(bytes, 77), transposed(bytes, 78), gathered(bytes, 79);
  pack_rows(b.data(), n, nullptr, k, n, format, rows.data());
  pack_transposed(bt.data(), k, k, n, format, transposed.data());
  pack_rows(b.data(), n, order.data(), k, n, format, gathered.data());
  bool same = true, permuted = true;
  for (int i = 0; i < format.depth(k); ++i) {
    for (int j = 0; j < (n + 15) / 16 * 16; ++j) {
      const bool inside = i < k && j < n;
      const int want = inside ? b[static_cast<std::size_t>(i * n + j)] : 0;
      same = same && packed_at(format, rows, i, j, k) == want && packed_at(format, transposed, i, j, k) == want;
      const int from = i < k ? order[static_cast<std::size_t>(i)] : -1;
      const int moved = inside && from >= 0 ? b[static_cast<std::size_t>(from * n + j)] : 0;
      permuted = permuted && packed_at(format, gathered, i, j, k) == moved;
    }
  }
  CHECK(same, "K %d, N %d, wide %d, multiple %d", k, n, wide, multiple);
  CHECK(permuted, "gathered, K %d, N %d, wide %d, multiple %d", k, n, wide, multiple);
}

}  // namespace

void test_pack() {
  for (const int k : {1, 2, 3, 4, 5, 32, 49, 64, 67}) {
    for (const int n : {1, 15, 16, 17, 49}) {
      for (const bool wide : {false, true}) {
        for (const int multiple : {4, 8, 64}) check_shape(k, n, wide, multiple);
      }
    }
  }
  // Low nibble first; 8 is the most negative value.
  const std::uint8_t packed[] = {0x8f, 0x70, 0x01};
  const int expected[] = {-1, -8, 0, 7, 1};
  std::int8_t out[5];
  unpack_int4(packed, 5, out);
  for (int i = 0; i < 5; ++i) CHECK(out[i] == expected[i], "int4 %d: %d", i, out[i]);
}
