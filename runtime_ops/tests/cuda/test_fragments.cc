// Where the lanes find their operands: products of random bytes through the tiles' offsets, and the banks that ldmatrix
// touches.
#include <set>

#include "../../cuda/fragments.h"
#include "harness.h"

using namespace qcompiler::cuda;

namespace {

struct Tiles {
  const unsigned char *left, *right;
  int* sums;
};

// One product of 16 x 32 and 32 x 16 bytes, all of it in one warp.
QC_KERNEL multiply_tile(Tiles t) {
  const int lane = static_cast<int>(threadIdx.x);
  unsigned char* const shared = shared_memory();
  for (int i = lane; i < 16 * 32; i += kWarp) {
    const int row = i / 32, byte = i % 32;
    shared[tile_offset(row, byte / kChunk) + byte % kChunk] = t.left[i];
    shared[1024 + tile_offset(row, byte / kChunk) + byte % kChunk] = t.right[i];
  }
  sync_block();
  unsigned x[4], w[4];
  load_matrices(x, shared + tile_offset(left_row(lane), left_chunk(lane)));
  load_matrices(w, shared + 1024 + tile_offset(right_column(lane), right_chunk(lane)));
  for (int j = 0; j < 2; ++j) {
    int d[4] = {};
    multiply_add<true>(d, x, w[2 * j], w[2 * j + 1]);
    for (int i = 0; i < 4; ++i) {
      t.sums[(sum_row(lane) + i / 2 * 8) * 16 + 8 * j + sum_column(lane) + i % 2] = d[i];
    }
  }
}

template <typename Offset>
void check_banks(const char* name, int chunks, const Offset& offset) {
  for (int row = 0; row < 64; row += 8) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      std::set<int> banks;
      for (int i = 0; i < 8; ++i) banks.insert(offset(row + i, chunk) / 16 % 8);
      CHECK(banks.size() == 8, "%s: rows from %d on, chunk %d meet in a bank", name, row, chunk);
    }
  }
  std::set<int> all;
  for (int row = 0; row < 64; ++row) {
    for (int chunk = 0; chunk < chunks; ++chunk) all.insert(offset(row, chunk));
  }
  CHECK(all.size() == 64u * static_cast<unsigned>(chunks) && *all.rbegin() == (64 * chunks - 1) * 16, "%s: not a tile", name);
}

}  // namespace

void test_fragments() {
  Random random(3);
  std::vector<unsigned char> left(16 * 32), right(16 * 32);
  for (auto& v : left) v = static_cast<unsigned char>(random.integer(0, 255));
  for (auto& v : right) v = static_cast<unsigned char>(random.integer(0, 255));
  const DeviceArray<unsigned char> device_left(left), device_right(right);
  const DeviceArray<int> device_sums(std::vector<int>(16 * 16));
  const Status status = launch("tile", multiply_tile, dim3(1), kWarp, 2048, nullptr,
                               Tiles{device_left.data(), device_right.data(), device_sums.data()});
  CHECK(status == nullptr, "%s", status);
  const std::vector<int> sums = device_sums.read();
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      int want = 0;
      for (int k = 0; k < 32; ++k) {
        want += left[static_cast<std::size_t>(m * 32 + k)] * static_cast<std::int8_t>(right[static_cast<std::size_t>(n * 32 + k)]);
      }
      CHECK(sums[static_cast<std::size_t>(m * 16 + n)] == want, "sum [%d, %d]", m, n);
    }
  }
  check_banks("tile", kChunks, [](int row, int chunk) { return tile_offset(row, chunk); });
  check_banks("narrow tile", 2, [](int row, int chunk) { return narrow_offset(row, chunk); });
}
