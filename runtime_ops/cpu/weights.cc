#include "weights.h"

#include <algorithm>
#include <cstring>

#include "error.h"
#include "pack.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr int kOperandLimit = 127;

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

}  // namespace

Status weight_operands(const LinearSpec& spec, std::vector<std::int8_t>* operand) {
  const std::int64_t count = spec.channels * spec.outputs;
  operand->resize(static_cast<std::size_t>(count));
  if (spec.weight_type == WeightType::kInt4) {
    unpack_int4(static_cast<const std::uint8_t*>(spec.weight), count, operand->data());
  } else {
    std::memcpy(operand->data(), spec.weight, static_cast<std::size_t>(count));
  }
  if (spec.w_blocks == nullptr) return nullptr;
  if (Status status = check_blocks(spec)) return status;
  const std::int64_t size = spec.channels / spec.weight_blocks;
  for (std::int64_t c = 0; c < spec.channels; ++c) {
    const std::uint8_t* const block = spec.w_blocks + c / size * spec.outputs;
    std::int8_t* const row = operand->data() + c * spec.outputs;
    for (std::int64_t d = 0; d < spec.outputs; ++d) {
      const int multiplier = block[d] >> 4, zero_point = (block[d] & 15) - 8;
      const int value = multiplier * (row[d] - zero_point);
      row[d] = static_cast<std::int8_t>(std::min(std::max(value, -kOperandLimit), kOperandLimit));
    }
  }
  return nullptr;
}

}  // namespace cpu
}  // namespace qcompiler
