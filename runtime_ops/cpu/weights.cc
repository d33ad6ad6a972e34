#include "weights.h"

#include <algorithm>
#include <cstring>

#include "error.h"
#include "path.h"
#include "scratch.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr std::int16_t kOperandLimit = 127;
constexpr std::uint8_t kPlainBlock = 0x18;  // multiplier 1, zero point 0

Status check_blocks(const LinearSpec& spec) {
  if (spec.weight_blocks < 1 || spec.channels % spec.weight_blocks != 0) {
    return error("linear: %lld blocks of weights do not divide %lld channels",
                 static_cast<long long>(spec.weight_blocks), static_cast<long long>(spec.channels));
  }
  const std::int64_t count = spec.weight_blocks * spec.outputs;
  for (std::int64_t i = 0; i < count; ++i) {
    if (spec.w_blocks[i] >> 4 != 0) continue;
    return error("linear: block %lld of the weights of output %lld has multiplier 0, expected 1 to 15",
                 static_cast<long long>(i / spec.outputs), static_cast<long long>(i % spec.outputs));
  }
  return nullptr;
}

// Loops over this many columns have a constant length, which compilers vectorise at -O2.
constexpr int kChunk = 16;

// int4 [first, first + count) of a flattened tensor, low nibble first.
void unpack(const std::uint8_t* packed, std::int64_t first, std::int64_t count, std::int8_t* out) {
  const auto low = [](std::uint8_t byte) { return static_cast<std::int8_t>(((byte & 15) ^ 8) - 8); };
  const auto high = [](std::uint8_t byte) { return static_cast<std::int8_t>(((byte >> 4) ^ 8) - 8); };
  const std::uint8_t* from = packed + first / 2;
  std::int64_t i = 0;
  if (first % 2 != 0 && count > 0) out[i++] = high(*from++);
  for (; i + 2 * kChunk <= count; i += 2 * kChunk, from += kChunk) {
    std::int8_t both[2 * kChunk];
    for (int n = 0; n < kChunk; ++n) {
      both[2 * n] = low(from[n]);
      both[2 * n + 1] = high(from[n]);
    }
    std::memcpy(out + i, both, sizeof both);
  }
  for (; i < count; i += 2, ++from) {
    out[i] = low(*from);
    if (i + 1 < count) out[i + 1] = high(*from);
  }
}

// Columns [0, kChunk) of one row: blocks applied in place, sums and the largest magnitude of every lane updated.
void finish_chunk(std::int8_t* values, const std::uint8_t* blocks, std::int32_t* sums, std::int16_t* largest) {
  std::int16_t v[kChunk];
  for (int n = 0; n < kChunk; ++n) v[n] = values[n];
  if (blocks != nullptr) {
    for (int n = 0; n < kChunk; ++n) {
      const std::int16_t multiplier = static_cast<std::int16_t>(blocks[n] >> 4);
      const std::int16_t zero_point = static_cast<std::int16_t>((blocks[n] & 15) - 8);
      const std::int16_t value = static_cast<std::int16_t>(multiplier * (v[n] - zero_point));
      const std::int16_t bounded = value < -kOperandLimit ? static_cast<std::int16_t>(-kOperandLimit) : value;
      v[n] = bounded > kOperandLimit ? kOperandLimit : bounded;
    }
    for (int n = 0; n < kChunk; ++n) values[n] = static_cast<std::int8_t>(v[n]);
  }
  for (int n = 0; n < kChunk; ++n) sums[n] += v[n];
  for (int n = 0; n < kChunk; ++n) {
    const std::int16_t magnitude = static_cast<std::int16_t>(v[n] < 0 ? -v[n] : v[n]);
    largest[n] = largest[n] < magnitude ? magnitude : largest[n];
  }
}

}  // namespace

Status weight_operands(const LinearSpec& spec, WeightOperands* operands) {
  if (spec.w_blocks != nullptr) {
    if (Status status = check_blocks(spec)) return status;
  }
  const std::int64_t outputs = spec.outputs, full = outputs / kChunk * kChunk;
  const std::int64_t size = spec.w_blocks == nullptr ? spec.channels : spec.channels / spec.weight_blocks;
  operands->values.resize(static_cast<std::size_t>(spec.channels * outputs));
  operands->column_sum.assign(static_cast<std::size_t>(round_up(outputs, kPanel)), 0);
  std::int32_t* const sums = operands->column_sum.data();
  std::int16_t largest[kChunk] = {};
  for (std::int64_t c = 0; c < spec.channels; ++c) {
    std::int8_t* const row = operands->values.data() + c * outputs;
    if (spec.weight_type == WeightType::kInt4) {
      unpack(static_cast<const std::uint8_t*>(spec.weight), c * outputs, outputs, row);
    } else {
      std::memcpy(row, static_cast<const std::int8_t*>(spec.weight) + c * outputs, static_cast<std::size_t>(outputs));
    }
    const std::uint8_t* const blocks = spec.w_blocks == nullptr ? nullptr : spec.w_blocks + c / size * outputs;
    for (std::int64_t d = 0; d < full; d += kChunk) {
      finish_chunk(row + d, blocks == nullptr ? nullptr : blocks + d, sums + d, largest);
    }
    if (full == outputs) continue;
    // What is left goes through a chunk of its own: zeros with the multiplier 1 change nothing.
    const std::size_t rest = static_cast<std::size_t>(outputs - full);
    std::int8_t values[kChunk] = {};
    std::uint8_t bytes[kChunk];
    std::memset(bytes, kPlainBlock, sizeof bytes);
    std::memcpy(values, row + full, rest);
    if (blocks != nullptr) std::memcpy(bytes, blocks + full, rest);
    finish_chunk(values, blocks == nullptr ? nullptr : bytes, sums + full, largest);
    std::memcpy(row + full, values, rest);
  }
  operands->largest = *std::max_element(largest, largest + kChunk);
  return nullptr;
}

}  // namespace cpu
}  // namespace qcompiler
