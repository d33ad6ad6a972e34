// Runs of a saturating product: their lengths against the bound that they must keep, and products whose left operand
// drives one column at a time as far up or down as it can go.
#include <algorithm>

#include "../cpu/windows.h"
#include "check.h"

using namespace qcompiler::cpu;

namespace {

struct Matrix {
  int k, n;
  std::vector<std::int8_t> values;
  int at(int row, int column) const {
    return row < k && column < n ? values[static_cast<std::size_t>(row * n + column)] : 0;
  }
};

enum class Kind { kUniform, kRarelyLarge, kPositive, kNegative, kOpposite };
constexpr Kind kKinds[] = {Kind::kUniform, Kind::kRarelyLarge, Kind::kPositive, Kind::kNegative, Kind::kOpposite};

Matrix make(Kind kind, int k, int n, int limit, std::uint64_t seed) {
  Random random(seed);
  Matrix b = {k, n, {}};
  for (int i = 0; i < k * n; ++i) {
    int value = random.integer(-limit, limit);
    if (kind == Kind::kRarelyLarge) value = random.integer(0, 19) == 0 ? value : value / 8;
    if (kind == Kind::kPositive) value = limit;
    if (kind == Kind::kNegative) value = -limit;
    if (kind == Kind::kOpposite) value = i / n % 2 == 0 ? limit : -limit;
    b.values.push_back(static_cast<std::int8_t>(value));
  }
  return b;
}

int largest(const Matrix& b) {
  int most = 0;
  for (const int v : b.values) most = std::max(most, std::abs(v));
  return most;
}

// The largest magnitude that the int16 sum of pair `pair` of `column` can reach over steps [begin, end) of 4.
int reach(const Matrix& b, int column, int pair, int begin, int end, int max_a) {
  int up = 0, down = 0;
  for (int s = begin; s < end; ++s) {
    for (int i = 0; i < 2; ++i) {
      const int product = max_a * b.at(4 * s + 2 * pair + i, column);
      (product > 0 ? up : down) += product;
    }
  }
  return std::max(up, -down);
}

void check_runs(const char* name, const Matrix& b, int max_a, int depth, const std::uint8_t* windows) {
  const int steps = depth / 4;
  for (int p = 0; p * kPanel < b.n; ++p, windows += steps) {
    int begin = 0, beyond = 0;
    bool greedy = true;
    for (int i = 0; begin < steps && windows[i] > 0; ++i) {
      const int end = begin + windows[i];
      int longer = 0;
      for (int c = p * kPanel; c < (p + 1) * kPanel; ++c) {
        for (const int pair : {0, 1}) {
          beyond += reach(b, c, pair, begin, end, max_a) > 32767 ? 1 : 0;
          longer = std::max(longer, reach(b, c, pair, begin, end + 1, max_a));
        }
      }
      greedy = greedy && (end >= steps || windows[i] == 255 || longer > 32767);
      begin = end;
    }
    CHECK(begin == steps, "%s: runs of panel %d end at step %d of %d", name, p, begin, steps);
    CHECK(beyond == 0, "%s: %d int16 sums of panel %d can overflow", name, beyond, p);
    CHECK(greedy, "%s: a run of panel %d is shorter than it could be", name, p);
  }
}

// Row 2 c of the left operand meets the positive weights of column c, row 2 c + 1 the negative ones.
void check_extremes(const char* name, const Path& path, const Matrix& b, int max_a, const Panels& panels) {
  const std::ptrdiff_t lda = left_stride(b.k);
  const int rows = 2 * b.n, count = (b.n + kPanel - 1) / kPanel, ld = count * kPanel;
  const int padded = (rows + path.row_multiple - 1) / path.row_multiple * path.row_multiple;
  std::vector<std::uint8_t> a(static_cast<std::size_t>(padded * lda), 255);
  for (int m = 0; m < rows; ++m) {
    for (int i = 0; i < b.k; ++i) {
      const bool meets = m % 2 == 0 ? b.at(i, m / 2) > 0 : b.at(i, m / 2) < 0;
      a[static_cast<std::size_t>(m * lda + i)] = static_cast<std::uint8_t>(meets ? max_a : 0);
    }
  }
  std::vector<std::int32_t> acc(static_cast<std::size_t>(padded * ld));
  if (path.enter != nullptr) path.enter();
  path.product(a.data(), lda, rows, panels, count, acc.data(), ld);
  if (path.leave != nullptr) path.leave();
  int wrong = 0;
  for (int m = 0; m < rows; ++m) {
    for (int c = 0; c < b.n; ++c) {
      std::int32_t sum = 0;
      for (int i = 0; i < b.k; ++i) sum += a[static_cast<std::size_t>(m * lda + i)] * b.at(i, c);
      wrong += sum != acc[static_cast<std::size_t>(m * ld + c)] ? 1 : 0;
    }
  }
  CHECK(wrong == 0, "%s: K %d, N %d, a <= %d: %d wrong", name, b.k, b.n, max_a, wrong);
}

// Weights whose neighbours cancel, until the channels are sorted by group: then all of one group have the same sign.
void check_segments(const char* name) {
  constexpr int kChannels = 64, kOutputs = 16;
  std::vector<std::int8_t> weight;
  std::vector<float> x;
  for (int c = 0; c < kChannels; ++c) {
    weight.insert(weight.end(), kOutputs, static_cast<std::int8_t>(c % 2 == 0 ? 127 : -127));
    x.push_back(c % 2 == 0 ? 1.0f : 255.0f);
  }
  const std::vector<float> scale(kOutputs, 1.0f);
  const std::vector<float> groups = {0.0f, 1.0f,   1.0f / 255.0f, 0.0f, 1.0f, 1.0f,
                                     0.0f, 255.0f, 1.0f,          0.0f, 1.0f, 1.0f};
  LinearSpec spec;
  spec.channels = kChannels;
  spec.outputs = kOutputs;
  spec.weight = weight.data();
  spec.w_scale = scale.data();
  spec.groups = {groups.data(), 2};
  spec.grouping = Grouping::kSegments;
  Linear* linear = nullptr;
  CHECK(linear_create(spec, &linear) == nullptr, "%s", name);
  if (linear == nullptr) return;
  Aligned scratch(linear_scratch_bytes(linear, 1, 1, 1));
  std::vector<float> y(kOutputs);
  LinearCall call;
  call.x = x.data();
  call.y = y.data();
  call.rows = 1;
  CHECK(linear_run(linear, call, scratch.get(), Parallel()) == nullptr, "%s", name);
  const float expected = 127.0f * 32.0f * (1.0f - 255.0f);  // codes are 255 in both groups
  for (const float v : y) CHECK(std::fabs(v - expected) < 1.0f, "%s: %g instead of %g", name, v, expected);
  linear_destroy(linear);
}

}  // namespace

void test_windows(const char* name, bool quick) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  check_segments(name);
  for (const int k : quick ? std::vector<int>{67} : std::vector<int>{1, 4, 6, 67, 192, 1100}) {
    for (const int limit : {1, 31, 64, 127}) {
      for (const int max_a : {15, 127, 254, 255}) {
        for (const Kind kind : kKinds) {
          const Matrix b = make(kind, k, 19, limit, static_cast<std::uint64_t>(k * limit));
          const PanelFormat format = choose_weight_format(path, max_a, b.values.data(), b.k, b.n, largest(b));
          if (path.saturates && !path.widens && k > 1) {
            int most = 0;
            for (int c = 0; c < b.n; ++c) {
              for (int s = 0; 4 * s < k; ++s) {
                for (const int pair : {0, 1}) most = std::max(most, reach(b, c, pair, s, s + 1, max_a));
              }
            }
            CHECK(format.wide == (most > 32767), "%s: pairs reach %d, wide %d", name, most, format.wide ? 1 : 0);
          }
          std::vector<char> packed(static_cast<std::size_t>(format.bytes(b.k, b.n)));
          pack_rows(b.values.data(), b.n, nullptr, b.k, b.n, format, packed.data());
          Panels panels = format.panels(packed.data(), b.k);
          const std::vector<std::uint8_t> windows = choose_windows(path, max_a, panels, 2);
          if (!windows.empty()) {
            check_runs(name, b, max_a, panels.depth, windows.data());
            panels.windows = windows.data();
          }
          check_extremes(name, path, b, max_a, panels);
        }
      }
    }
  }
}
