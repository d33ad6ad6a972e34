#include "quantizer.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "scratch.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr float kZeroPointLimit = 1 << 20;  // keeps code - zero_point exact in float32

}  // namespace

Status GroupQuantizer::read(const GroupTable& table, const char* name) {
  if (table.data == nullptr || table.count < 1) return error("%s: the group table is empty", name);
  if (table.count > 65536) return error("%s: %d groups, more than 65536", name, table.count);
  count = table.count;
  const std::size_t padded = static_cast<std::size_t>(round_up(count, kPanel));
  for (std::vector<float>* v : {&lower, &upper, &scale, &inverse, &multiplier, &outer, &low, &high}) {
    v->assign(padded, 0.0f);
  }
  offset.assign(padded, 0);
  rows.assign(padded, RowQuantizer{});
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const float* row = table.data + 6 * i;
    lower[i] = row[0];
    upper[i] = row[1];
    scale[i] = row[2];
    inverse[i] = 1.0f / row[2];
    multiplier[i] = row[4];
    outer[i] = row[5];
  }
  return nullptr;
}

Status GroupQuantizer::prepare(const GroupTable& table, int bits, Operand operand, const char* name) {
  if (bits < 1 || bits > 8) return error("%s: %d bits, not in 1 .. 8", name, bits);
  if (Status status = read(table, name)) return status;
  const float top = static_cast<float>((1 << bits) - 1);
  float smallest = 0.0f, largest = 0.0f;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const float zero = table.data[6 * i + 3];
    if (!(std::fabs(zero) <= kZeroPointLimit) || zero != std::rint(zero)) {
      return error("%s: zero point %g of group %d is not an integer up to 2^20", name, static_cast<double>(zero),
                   static_cast<int>(i));
    }
    low[i] = -zero;
    high[i] = top - zero;
    float first = low[i], last = high[i];  // range of the operand
    if (operand == Operand::kMultiple) {
      const float factor = multiplier[i];
      if (!(factor >= 1.0f && factor <= 127.0f) || factor != std::rint(factor)) {
        return error("%s: multiplier %g of group %d is not an integer in 1 .. 127", name,
                     static_cast<double>(factor), static_cast<int>(i));
      }
      first *= factor;
      last *= factor;
    }
    if (operand != Operand::kCode) {
      first = std::min(std::max(first, -127.0f), 127.0f);
      last = std::min(std::max(last, -127.0f), 127.0f);
    }
    if (operand == Operand::kUnsigned || operand == Operand::kSigned) {
      low[i] = first;
      high[i] = last;
    }
    smallest = std::min(smallest, first);
    largest = std::max(largest, last);
    max_magnitude = std::max(max_magnitude, static_cast<int>(std::max(std::fabs(first), std::fabs(last))));
    offset[i] = operand == Operand::kSigned ? 0 : -static_cast<std::int32_t>(first);
    max_byte = std::max(max_byte, static_cast<int>(last - first));
  }
  if (operand == Operand::kSigned) max_byte = max_magnitude;
  if (operand == Operand::kMultiple) {
    // One offset, so that the correction is one vector per layer: offset * column sums.
    const std::int32_t shift = -static_cast<std::int32_t>(smallest);
    std::fill(offset.begin(), offset.end(), shift);
    max_byte = shift + static_cast<int>(largest);
  }
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = RowQuantizer{inverse[i], low[i], high[i], offset[i]};
  return nullptr;
}

Status GroupQuantizer::prepare_levels(const GroupTable& table, int levels, const char* name) {
  if (Status status = read(table, name)) return status;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    high[i] = static_cast<float>(levels - 1);
    rows[i] = RowQuantizer{inverse[i], 0.0f, high[i], 0};
  }
  max_byte = max_magnitude = levels - 1;
  return nullptr;
}

Status prepare_blocks(const BlockSpec& spec, Operand operand, const char* name, BlockQuantizer* quantizer) {
  if (spec.bits < 2 || spec.bits > 7) return error("%s: %d bits in blocks, not in 2 .. 7", name, spec.bits);
  if (spec.block < 1 || spec.block > 1 << 24) {
    return error("%s: blocks of %lld channels", name, static_cast<long long>(spec.block));
  }
  if (!(spec.clip > 0.0f && spec.clip <= 1.0f)) {
    return error("%s: clip %g is not in (0, 1]", name, static_cast<double>(spec.clip));
  }
  if (!(spec.slack >= 0.0f && spec.slack <= 0.5f)) {
    return error("%s: slack %g is not in [0, 0.5]", name, static_cast<double>(spec.slack));
  }
  const int half = 1 << (spec.bits - 1);
  quantizer->block = static_cast<std::int32_t>(spec.block);
  quantizer->clip = spec.clip;
  quantizer->slack = spec.slack;
  quantizer->top = static_cast<float>(2 * half - 1);
  quantizer->inverse_top = 1.0f / quantizer->top;
  quantizer->most = static_cast<float>(127 / half);
  quantizer->reach = quantizer->most * static_cast<float>(half);
  quantizer->offset = operand == Operand::kSigned ? 0 : kBlockOffset;
  return nullptr;
}

}  // namespace cpu
}  // namespace qcompiler
