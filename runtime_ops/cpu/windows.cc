#include "windows.h"

#include <algorithm>

namespace qcompiler {
namespace cpu {
namespace {

constexpr int kLimit = 32767;
constexpr int kLanes = 2 * kPanel;  // int16 sums of one panel: two pairs of every step of 4 by 16 columns
constexpr int kStepBytes = 4 * kPanel;

// Sums of the positive and of the negative weights that every int16 sum has taken.
struct Reach {
  int up[kLanes], down[kLanes];

  void clear() {
    std::fill(up, up + kLanes, 0);
    std::fill(down, down + kLanes, 0);
  }
  void add(const std::int8_t* step) {
    for (int i = 0; i < kLanes; ++i) {
      const int a = step[2 * i], b = step[2 * i + 1];
      up[i] += std::max(a, 0) + std::max(b, 0);
      down[i] -= std::min(a, 0) + std::min(b, 0);
    }
  }
  int largest() const {
    int most = 0;
    for (int i = 0; i < kLanes; ++i) most = std::max(most, std::max(up[i], down[i]));
    return most;
  }
};

// Runs as long as they can be; a step alone always fits.
void choose_runs(const std::int8_t* steps, std::int32_t count, int max_a, std::uint8_t* windows) {
  Reach reach;
  reach.clear();
  int length = 0;
  for (std::int32_t s = 0; s < count; ++s, steps += kStepBytes) {
    reach.add(steps);
    if (length > 0 && (length == 255 || reach.largest() * max_a > kLimit)) {
      *windows++ = static_cast<std::uint8_t>(length);
      reach.clear();
      reach.add(steps);
      length = 0;
    }
    ++length;
  }
  *windows = static_cast<std::uint8_t>(length);
}

}  // namespace

PanelFormat choose_weight_format(const Path& path, int max_a, const std::int8_t* weights, std::int64_t k,
                                 std::int64_t n, int largest) {
  PanelFormat format = choose_format(path, max_a, largest);
  if (!path.saturates || !format.wide) return format;
  int most = 0;
  for (std::int64_t row = 0; row + 1 < k; row += 2) {
    const std::int8_t *const a = weights + row * n, *const b = a + n;
    for (std::int64_t i = 0; i < n; ++i) {
      const int up = std::max<int>(a[i], 0) + std::max<int>(b[i], 0);
      const int down = -std::min<int>(a[i], 0) - std::min<int>(b[i], 0);
      most = std::max(most, std::max(up, down));
    }
  }
  // The last row of an odd number alone is no more than `largest`.
  if (std::max(most, largest) * max_a > kLimit) return format;
  format.wide = false;
  format.period = 1;
  return format;
}

std::vector<std::uint8_t> choose_windows(const Path& path, int max_a, const Panels& panels, std::int64_t count) {
  if (!path.saturates || panels.wide) return {};
  const std::int32_t steps = panels.depth / 4;
  std::vector<std::uint8_t> windows(static_cast<std::size_t>(count * steps), 0);
  for (std::int64_t p = 0; p < count; ++p) {
    const std::int8_t* const panel = static_cast<const std::int8_t*>(panels.data) + p * panels.stride;
    choose_runs(panel, steps, max_a, windows.data() + p * steps);
  }
  // Ending a run costs more than a step: where most are short, all steps are widened at once.
  const std::int64_t runs = static_cast<std::int64_t>(windows.size()) -
                            std::count(windows.begin(), windows.end(), std::uint8_t{0});
  if (2 * runs > static_cast<std::int64_t>(windows.size())) windows.clear();
  return windows;
}

}  // namespace cpu
}  // namespace qcompiler
