// Shared by the two ways to run a linear layer: blocking sizes, and ranges and groups of channels.
#include <algorithm>

#include "linear.h"

namespace qcompiler {
namespace cpu {

std::int64_t chunk_rows(const Path& path, std::int64_t rows, std::ptrdiff_t lda) {
  constexpr std::ptrdiff_t kBudget = 256 * 1024;
  const std::int64_t step = block_rows(path);
  const std::int64_t fitting = std::max<std::int64_t>(kBudget / lda / step, 1) * step;
  if (rows <= fitting) return rows;
  // Equal chunks: a short last one would read all weights for few rows.
  const std::int64_t chunks = (rows + fitting - 1) / fitting;
  return round_up((rows + chunks - 1) / chunks, step);
}

void ChannelParameters::take(Arena& arena, std::int64_t channels) {
  const std::ptrdiff_t n = round_up(channels, kPanel);
  lower = arena.take<float>(n);
  upper = arena.take<float>(n);
  index = arena.take<std::int32_t>(n);
  inverse = arena.take<float>(n);
  low = arena.take<float>(n);
  high = arena.take<float>(n);
  multiplier = arena.take<float>(n);
}

void ChannelParameters::join(const Linear& linear, const float* ranges, std::int64_t parts) const {
  const std::int64_t n = round_up(linear.channels, kPanel);
  std::copy(ranges, ranges + n, lower);
  std::copy(ranges + n, ranges + 2 * n, upper);
  for (std::int64_t i = 1; i < parts; ++i) {
    ranges += 2 * n;
    for (std::int64_t c = 0; c < n; ++c) {
      lower[c] = std::min(lower[c], ranges[c]);
      upper[c] = std::max(upper[c], ranges[n + c]);
    }
  }
}

void ChannelParameters::assign(const Linear& linear) const {
  const GroupQuantizer& q = linear.quantizer;
  linear.path->stages->assign(lower, upper, static_cast<int>(linear.channels), q.columns(), index);
  // The padding, too: the stages read whole vectors.
  const std::int64_t n = round_up(linear.channels, kPanel);
  for (std::int64_t c = 0; c < n; ++c) {
    const std::size_t g = c < linear.channels ? static_cast<std::size_t>(index[c]) : 0;
    inverse[c] = q.inverse[g];
    low[c] = q.low[g];
    high[c] = q.high[g];
    multiplier[c] = q.multiplier[g];
  }
}

void RangeBuffers::take(Arena& arena, const Linear& linear) {
  const bool copies = linear.norm || linear.rotate > 1 || linear.row_norm;
  norm = copies ? arena.take<float>(kNormRows * round_up(linear.channels, kPanel)) : nullptr;
  row_norm = linear.row_norm ? arena.take<float>(kNormRows) : nullptr;
}

PreparedRows prepare_rows(const Linear& linear, const float* x, int rows, const float* mean, const float* rstd,
                          const RangeBuffers& buffers) {
  const Stages& stages = *linear.path->stages;
  const int cols = static_cast<int>(linear.channels);
  const std::ptrdiff_t padded = round_up(linear.channels, kPanel);
  PreparedRows out = {x, static_cast<std::ptrdiff_t>(linear.channels)};
  if (linear.norm) {
    stages.normalize(out.data, out.ld, rows, cols, mean, rstd, linear.gamma.data(), linear.beta.data(), buffers.norm,
                     padded);
    out = {buffers.norm, padded};
  }
  if (linear.rotate > 1) {
    stages.rotate_rows(out.data, out.ld, rows, cols, linear.rotate, buffers.norm, padded);
    out = {buffers.norm, padded};
  }
  if (linear.row_norm) {
    stages.row_norm(out.data, out.ld, rows, cols, buffers.row_norm, buffers.norm, padded);
    out = {buffers.norm, padded};
  }
  return out;
}

void measure_channels(const Linear& linear, const float* x, std::int64_t rows, float* mean, float* rstd,
                      const RangeBuffers& buffers, float* lower, float* upper) {
  const Stages& stages = *linear.path->stages;
  const int cols = static_cast<int>(linear.channels);
  const std::ptrdiff_t ld = linear.channels;
  for (std::int64_t m = 0; m < rows; m += kNormRows) {
    const int count = static_cast<int>(std::min<std::int64_t>(kNormRows, rows - m));
    const float* block = x + m * ld;
    if (linear.norm) stages.row_stats(block, ld, count, cols, linear.epsilon, mean + m, rstd + m);
    const PreparedRows prepared =
        prepare_rows(linear, block, count, linear.norm ? mean + m : nullptr, linear.norm ? rstd + m : nullptr, buffers);
    stages.channel_ranges(prepared.data, prepared.ld, count, cols, lower, upper, m == 0);
  }
}

}  // namespace cpu
}  // namespace qcompiler
