// Creation of linear layers and the public entry points.
#include "linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "../reference/reference.h"
#include "checks.h"
#include "error.h"
#include "weights.h"
#include "windows.h"

namespace qcompiler {
namespace cpu {
namespace {

std::vector<float> padded(const float* values, std::int64_t count) {
  std::vector<float> copy(static_cast<std::size_t>(round_up(count, kPanel)), 0.0f);
  if (values != nullptr) std::copy(values, values + count, copy.begin());
  return copy;
}

void copy_for_reference(const LinearSpec& spec, const WeightOperands& operands, Linear* linear) {
  PackedBuilder rows(operands.values.size());
  std::copy(operands.values.begin(), operands.values.end(), rows.data());
  linear->weight = rows.share();
  if (spec.grouping != Grouping::kBlocks) {
    linear->groups.assign(spec.groups.data, spec.groups.data + 6 * static_cast<std::size_t>(spec.groups.count));
  }
  linear->spec = spec;
  linear->spec.weight = linear->weight.data();
  linear->spec.weight_type = WeightType::kInt8;
  linear->spec.w_blocks = nullptr;
  linear->spec.w_scale = linear->w_scale.data();
  linear->spec.bias = linear->bias.data();
  linear->spec.groups.data = linear->groups.data();
  if (linear->norm) {
    linear->spec.gamma = linear->gamma.data();
    linear->spec.beta = linear->beta.data();
  }
}

// Plain stripes of 16 columns, from which panels are gathered at run time.
PackedWeights stripes(const std::vector<std::int8_t>& weight, std::int64_t c, std::int64_t d) {
  PackedBuilder packed(static_cast<std::size_t>(round_up(d, kPanel) * c));
  for (std::int64_t n = 0; n < d; n += kPanel) {
    const std::size_t count = static_cast<std::size_t>(std::min<std::int64_t>(kPanel, d - n));
    for (std::int64_t k = 0; k < c; ++k) {
      std::memcpy(packed.data() + n * c + k * kPanel, weight.data() + k * d + n, count);
    }
  }
  return packed.share();
}

void pack(const WeightOperands& operands, Linear* linear) {
  const std::int64_t c = linear->channels, d = linear->outputs;
  if (linear->grouping == Grouping::kSegments) {
    linear->weight = stripes(operands.values, c, d);
    return;
  }
  PackedBuilder panels(static_cast<std::size_t>(linear->format.bytes(c, d)));
  pack_rows(operands.values.data(), d, nullptr, c, d, linear->format, panels.data());
  linear->weight = panels.share();
  linear->column_sum = operands.column_sum;
  if (!linear->zero_by_row()) {
    const std::int32_t zero = linear->grouping == Grouping::kBlocks ? kBlockOffset : linear->quantizer.offset[0];
    for (std::int32_t& sum : linear->column_sum) {  // modulo 2^32, as the products are
      sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * static_cast<std::uint32_t>(zero));
    }
  }
  linear->windows = choose_windows(*linear->path, linear->quantizer.max_byte,
                                   linear->format.panels(linear->weight.data(), c), linear->panel_count());
}

Status prepare_quantizer(const LinearSpec& spec, Linear* linear) {
  if (spec.grouping == Grouping::kBlocks) {
    linear->quantizer.max_magnitude = kBlockOffset;
    linear->quantizer.max_byte = 2 * kBlockOffset;
    return prepare_blocks(spec.blocks(), Operand::kUnsigned, "linear input", &linear->blocks);
  }
  const Operand operand = spec.grouping == Grouping::kChannels ? Operand::kMultiple : Operand::kCode;
  return linear->quantizer.prepare(spec.groups, spec.bits, operand, "linear input");
}

Status create(const LinearSpec& spec, Linear* linear) {
  Status status = nullptr;
  const Path* path = active_path(&status);
  if (path == nullptr) return status;
  if ((status = check_linear(spec)) != nullptr) return status;
  linear->path = spec.grouping == Grouping::kSegments && path->segments != nullptr ? path->segments : path;
  linear->channels = spec.channels;
  linear->outputs = spec.outputs;
  linear->grouping = spec.grouping;
  linear->gelu = spec.gelu;
  linear->norm = spec.gamma != nullptr;
  linear->epsilon = spec.epsilon;
  linear->rotate = static_cast<int>(spec.rotate);
  linear->row_norm = spec.normalize;
  linear->w_scale = padded(spec.w_scale, spec.outputs);
  linear->bias = padded(spec.bias, spec.outputs);
  if (linear->norm) {
    linear->gamma = padded(spec.gamma, spec.channels);
    linear->beta = padded(spec.beta, spec.channels);
  }
  if ((status = prepare_quantizer(spec, linear)) != nullptr) return status;

  WeightOperands operands;
  if ((status = weight_operands(spec, &operands)) != nullptr) return status;
  if ((status = check_accumulator(spec, linear->quantizer.max_magnitude, operands.largest)) != nullptr) return status;

  if (is_reference(*path)) {
    copy_for_reference(spec, operands, linear);
  } else {
    // Segments are sorted at run time: which weights will be neighbours is not known.
    linear->format = spec.grouping == Grouping::kSegments
                         ? choose_format(*linear->path, linear->quantizer.max_byte, operands.largest)
                         : choose_weight_format(*linear->path, linear->quantizer.max_byte, operands.values.data(),
                                                spec.channels, spec.outputs, operands.largest);
    pack(operands, linear);
  }
  return nullptr;
}

}  // namespace

Status linear_create(const LinearSpec& spec, Linear** out) noexcept {
  *out = nullptr;
  try {
    std::unique_ptr<Linear> linear(new Linear);
    if (Status status = create(spec, linear.get())) return status;
    *out = linear.release();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return error("linear: out of memory");
  }
}

void linear_destroy(Linear* linear) noexcept { delete linear; }

std::size_t linear_scratch_bytes(const Linear* linear, std::int64_t batch, std::int64_t rows, int threads) noexcept {
  if (is_reference(*linear->path) || batch < 1 || rows < 1) return 0;
  if (linear->grouping == Grouping::kSegments) return segments_scratch(*linear, batch, rows, threads);
  return dense_scratch(*linear, batch, rows, threads);
}

Status linear_run(const Linear* linear, const LinearCall& call, void* scratch, const Parallel& parallel) noexcept {
  if (Status status = check_linear_call(call)) return status;
  if (call.batch == 0 || call.rows == 0) return nullptr;
  if (is_reference(*linear->path)) {
    try {
      reference::group_linear(linear->spec, call);
      return nullptr;
    } catch (const std::bad_alloc&) {
      return error("linear: out of memory");
    }
  }
  if (Status status = check_scratch("linear", scratch)) return status;
  if (linear->grouping == Grouping::kSegments) {
    run_segments(*linear, call, scratch, parallel);
  } else {
    run_dense(*linear, call, scratch, parallel);
  }
  return nullptr;
}

}  // namespace cpu
}  // namespace qcompiler
