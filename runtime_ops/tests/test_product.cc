// The integer product of a path against a plain sum: exact, for every depth, row count and panel count.
#include <algorithm>
#include <string>

#include "../cpu/pack.h"
#include "../cpu/path.h"
#include "../cpu/scratch.h"
#include "check.h"

using namespace qcompiler::cpu;

namespace {

enum class Fill { kRandom, kLargest, kSmallest, kAlternating };

int fill_value(Fill fill, Random* random, int position, int low, int high) {
  switch (fill) {
    case Fill::kRandom: return random->integer(low, high);
    case Fill::kLargest: return high;
    case Fill::kSmallest: return low;
    default: return position % 2 == 0 ? high : low;
  }
}

void check_product(const char* name, const Path& path, int rows, int k, int n, int max_a, int min_b, int max_b,
                   Fill fill_a, Fill fill_b) {
  Random random(static_cast<std::uint64_t>(rows * 7 + k * 131 + n * 17 + max_a));
  const PanelFormat format = choose_format(path, max_a, std::max(-min_b, max_b));
  const std::ptrdiff_t lda = left_stride(k);
  const int padded_rows = static_cast<int>(round_up(rows, path.row_multiple));
  std::vector<std::uint8_t> a(static_cast<std::size_t>(padded_rows * lda));
  std::vector<std::int8_t> b(static_cast<std::size_t>(k * n));
  // Whatever stands behind K must not matter.
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool inside = static_cast<std::ptrdiff_t>(i) % lda < k;
    const int value = inside ? fill_value(fill_a, &random, static_cast<int>(i), 0, max_a) : random.integer(0, 255);
    a[i] = static_cast<std::uint8_t>(value);
  }
  for (std::size_t i = 0; i < b.size(); ++i) {
    b[i] = static_cast<std::int8_t>(fill_value(fill_b, &random, static_cast<int>(i) / n, min_b, max_b));
  }
  std::vector<char> packed(static_cast<std::size_t>(format.bytes(k, n)));
  pack_rows(b.data(), n, nullptr, k, n, format, packed.data());
  const int panels = (n + kPanel - 1) / kPanel;
  const std::ptrdiff_t ld = panels * kPanel;
  std::vector<std::int32_t> acc(static_cast<std::size_t>(padded_rows * ld), 123456789);
  if (path.enter != nullptr) path.enter();
  path.product(a.data(), lda, rows, format.panels(packed.data(), k), panels, acc.data(), ld);
  if (path.leave != nullptr) path.leave();

  std::vector<std::int32_t> row(static_cast<std::size_t>(n));
  int wrong = 0;
  for (int m = 0; m < rows; ++m) {
    std::fill(row.begin(), row.end(), 0);
    for (int i = 0; i < k; ++i) {
      const std::int32_t x = a[static_cast<std::size_t>(m * lda + i)];
      for (int j = 0; j < n; ++j) row[static_cast<std::size_t>(j)] += x * b[static_cast<std::size_t>(i * n + j)];
    }
    for (int j = 0; j < n; ++j) {
      wrong += acc[static_cast<std::size_t>(m * ld + j)] != row[static_cast<std::size_t>(j)] ? 1 : 0;
    }
  }
  CHECK(wrong == 0, "%s: M %d, K %d, N %d, a <= %d, b in [%d, %d]: %d wrong", name, rows, k, n, max_a, min_b, max_b,
        wrong);
}

}  // namespace

void test_product(const char* name, bool quick) {
  Status status = nullptr;
  const Path& path = *active_path(&status);

  // Depths around the steps of 2, 4, 8, 16, 64 and 256; rows around tiles of 6, 16 and 32; 1 to 5 panels.
  const std::vector<int> depths = quick
                                      ? std::vector<int>{1, 5, 64, 67}
                                      : std::vector<int>{1, 2, 3, 4, 5, 31, 32, 33, 49, 63, 64, 65, 192, 197, 260, 520};
  const std::vector<int> rows =
      quick ? std::vector<int>{1, 6, 7, 17, 33} : std::vector<int>{1, 2, 3, 4, 5, 6, 7, 13, 16, 17, 31, 32, 33, 48};
  const std::vector<int> columns = quick ? std::vector<int>{1, 33, 80} : std::vector<int>{1, 16, 17, 33, 49, 64, 80};
  for (const int k : depths) {
    for (const int m : rows) {
      for (const int n : columns) {
        check_product(name, path, m, k, n, 255, -8, 7, Fill::kRandom, Fill::kRandom);
        if (!quick) check_product(name, path, m, k, n, 255, -128, 127, Fill::kRandom, Fill::kRandom);
      }
    }
  }

  // Extremes. Each pair of bounds picks another period of the int16 sums on AVX2 and SSSE3:
  //   15 x 8: 136 steps; 120 x 8: 17; 255 x 8: 8; 255 x 16: 4; 127 x 64: 2; 255 x 64: 1; 127 x 127: 1 (32258 of 32767);
  //   255 x 127 and 255 x 128: pairs exceed int16, 16-bit operands.
  const int bounds[][3] = {{15, -8, 7},    {120, -8, 7},     {255, -8, 8},     {255, -16, 16},  {127, -64, 63},
                           {255, -64, 64}, {127, -127, 127}, {255, -127, 127}, {255, -128, 127}};
  for (const auto& bound : bounds) {
    for (const int k : quick ? std::vector<int>{130} : std::vector<int>{130, 1024, 4096}) {
      for (const Fill b : {Fill::kLargest, Fill::kSmallest, Fill::kAlternating}) {
        // All products of one sign: a saturating sum would stop early. Alternating: it would lose one sign.
        check_product(name, path, 7, k, 33, bound[0], bound[1], bound[2], Fill::kLargest, b);
      }
    }
  }
}
