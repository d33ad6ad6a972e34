#include <algorithm>
#include <vector>

#include "reference.h"

namespace qcompiler {
namespace reference {
namespace {

using cpu::Grouping;

// Groups of the items of one instance x [rows, C]: of its rows, or of its channels.
std::vector<Group> item_groups(const cpu::LinearSpec& spec, const float* x, std::int64_t rows,
                               std::vector<int>* index) {
  const std::int64_t c_count = spec.channels;
  const bool by_rows = spec.grouping == Grouping::kRows;
  const std::int64_t items = by_rows ? rows : c_count;
  const std::int64_t length = by_rows ? c_count : rows;
  std::vector<Group> groups;
  for (std::int64_t i = 0; i < items; ++i) {
    const float* item = by_rows ? x + i * c_count : x + i;
    const std::int64_t step = by_rows ? 1 : c_count;
    float lower = item[0], upper = item[0];
    for (std::int64_t j = 1; j < length; ++j) {
      lower = std::min(lower, item[j * step]);
      upper = std::max(upper, item[j * step]);
    }
    index->push_back(assign_group(lower, upper, spec.groups));
    groups.push_back(group_at(spec.groups, index->back()));
  }
  return groups;
}

// One output before w_scale: the exact integer sum times the outer scale, or the sum of the scaled segments.
float scaled_sum(const cpu::LinearSpec& spec, const std::vector<std::int32_t>& operand, std::int64_t column,
                 const std::vector<int>& channel_group, float outer) {
  if (spec.grouping != Grouping::kSegments) {
    std::int32_t acc = 0;
    for (std::int64_t c = 0; c < spec.channels; ++c) {
      acc += operand[static_cast<std::size_t>(c)] * weight_operand(spec, c, column);
    }
    return static_cast<float>(acc) * outer;
  }
  float sum = 0.0f;
  for (int g = 0; g < spec.groups.count; ++g) {
    std::int32_t acc = 0;
    for (std::int64_t c = 0; c < spec.channels; ++c) {
      if (channel_group[static_cast<std::size_t>(c)] != g) continue;
      acc += operand[static_cast<std::size_t>(c)] * weight_operand(spec, c, column);
    }
    sum += static_cast<float>(acc) * group_at(spec.groups, g).scale;
  }
  return sum * outer;
}

// Operands of row `n` of the instance x [rows, C]; returns the outer scale. `index` is left with the group of every
// item, where items have groups.
float quantize_row(const cpu::LinearSpec& spec, const float* x, std::int64_t rows, std::int64_t n,
                   std::vector<int>* index, std::int32_t* operand) {
  if (spec.grouping == Grouping::kBlocks) {
    const float* const row = x + n * spec.channels;
    const float scale = block_scale(spec.blocks(), row, 0, 1, spec.channels);
    quantize_blocks(spec.blocks(), row, spec.channels, scale, operand);
    return scale;
  }
  const float top = static_cast<float>((1 << spec.bits) - 1);
  const std::vector<Group> groups = item_groups(spec, x, rows, index);
  for (std::int64_t c = 0; c < spec.channels; ++c) {
    const Group& group = groups[static_cast<std::size_t>(spec.grouping == Grouping::kRows ? n : c)];
    const float code = quantize(x[n * spec.channels + c], group, top);
    operand[c] = spec.grouping == Grouping::kChannels ? multiplied_operand(code, group)
                                                      : static_cast<std::int32_t>(code - group.zero_point);
  }
  // The outer scale of channels is the same in every group.
  return groups[static_cast<std::size_t>(spec.grouping == Grouping::kRows ? n : 0)].outer;
}

std::int32_t weight_at(const cpu::LinearSpec& spec, std::int64_t index) {
  if (spec.weight_type == cpu::WeightType::kInt8) return static_cast<const std::int8_t*>(spec.weight)[index];
  const int nibble = static_cast<const std::uint8_t*>(spec.weight)[index / 2] >> (index % 2 * 4) & 15;
  return nibble < 8 ? nibble : nibble - 16;
}

}  // namespace

std::int32_t weight_operand(const cpu::LinearSpec& spec, std::int64_t channel, std::int64_t output) {
  const std::int32_t weight = weight_at(spec, channel * spec.outputs + output);
  if (spec.w_blocks == nullptr) return weight;
  const std::int64_t block = channel / (spec.channels / spec.weight_blocks);
  const int byte = spec.w_blocks[block * spec.outputs + output];
  return std::min(std::max(byte / 16 * (weight - (byte % 16 - 8)), -127), 127);
}

void group_linear_prepared(const cpu::LinearSpec& spec, const float* x, const float* norm,
                           const cpu::LinearCall& call) {
  const std::int64_t channels = spec.channels, outputs = spec.outputs;
  std::vector<std::int32_t> operand(static_cast<std::size_t>(channels));
  for (std::int64_t row = 0; row < call.batch * call.rows; ++row, x += channels) {
    const std::int64_t n = row % call.rows;
    std::vector<int> index;
    const float outer = quantize_row(spec, x - n * channels, call.rows, n, &index, operand.data()) * norm[row];
    for (std::int64_t d = 0; d < outputs; ++d) {
      const float y = scaled_sum(spec, operand, d, index, outer) * spec.w_scale[d];
      const float activated = gelu(y + (spec.bias != nullptr ? spec.bias[d] : 0.0f), spec.gelu);
      const std::int64_t at = row * outputs + d;
      call.y[at] = call.residual != nullptr ? activated + call.residual[at] : activated;
    }
  }
}

void group_linear(const cpu::LinearSpec& spec, const cpu::LinearCall& call) {
  const std::int64_t channels = spec.channels, rows = call.batch * call.rows;
  std::vector<float> x(call.x, call.x + rows * channels);
  std::vector<float> norm(static_cast<std::size_t>(rows), 1.0f);
  for (std::int64_t n = 0; n < rows; ++n) {
    float* row = x.data() + n * channels;
    if (spec.gamma != nullptr) layer_norm(call.x + n * channels, channels, spec.gamma, spec.beta, spec.epsilon, row);
    rotate_row(row, channels, spec.rotate);
    if (spec.normalize) norm[static_cast<std::size_t>(n)] = row_norm(row, channels);
  }
  group_linear_prepared(spec, x.data(), norm.data(), call);
}

}  // namespace reference
}  // namespace qcompiler
