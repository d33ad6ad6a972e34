#include <algorithm>
#include <cmath>
#include <vector>

#include "reference.h"

namespace qcompiler {
namespace reference {
namespace {

// Integer operands [rows, cols] of one matrix of one head, and the outer scale of every item.
struct Quantized {
  std::vector<std::int32_t> operand;
  std::vector<float> outer;
};

// Items are rows, or columns if `by_columns`.
Quantized quantize_matrix(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t cols, bool by_columns,
                          const cpu::GroupTable& table, int bits) {
  const float top = static_cast<float>((1 << bits) - 1);
  Quantized result;
  result.operand.resize(static_cast<std::size_t>(rows * cols));
  const std::int64_t items = by_columns ? cols : rows, length = by_columns ? rows : cols;
  for (std::int64_t i = 0; i < items; ++i) {
    const std::int64_t start = by_columns ? i : i * ld, step = by_columns ? ld : 1;
    float lower = x[start], upper = x[start];
    for (std::int64_t j = 1; j < length; ++j) {
      lower = std::min(lower, x[start + j * step]);
      upper = std::max(upper, x[start + j * step]);
    }
    const Group group = group_at(table, assign_group(lower, upper, table));
    result.outer.push_back(group.outer);
    for (std::int64_t j = 0; j < length; ++j) {
      const std::int64_t at = by_columns ? j * cols + i : i * cols + j;
      result.operand[static_cast<std::size_t>(at)] = signed_operand(quantize(x[start + j * step], group, top), group);
    }
  }
  return result;
}

// Rows in blocks, with a scale each or one scale for all of them.
Quantized quantize_in_blocks(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t cols,
                             const cpu::BlockSpec& blocks, bool shared) {
  Quantized result;
  result.operand.resize(static_cast<std::size_t>(rows * cols));
  for (std::int64_t n = 0; n < rows; ++n) {
    const float scale = shared ? block_scale(blocks, x, ld, rows, cols) : block_scale(blocks, x + n * ld, 0, 1, cols);
    quantize_blocks(blocks, x + n * ld, cols, scale, result.operand.data() + n * cols);
    result.outer.push_back(scale);
  }
  return result;
}

void softmax(std::vector<float>* row) {
  const float peak = *std::max_element(row->begin(), row->end());
  double sum = 0.0;
  for (const float v : *row) sum += std::exp(static_cast<double>(v) - peak);
  for (float& v : *row) v = static_cast<float>(std::exp(static_cast<double>(v) - peak) / sum);
}

// Operands of the probabilities of one row and their outer scale.
float quantize_probabilities(const cpu::AttentionSpec& spec, const std::vector<float>& p,
                             std::vector<std::int32_t>* operand) {
  const float lower = *std::min_element(p.begin(), p.end()), upper = *std::max_element(p.begin(), p.end());
  Group group = group_at(spec.p, assign_group(lower, upper, spec.p));
  group.zero_point = 0.0f;
  for (std::size_t m = 0; m < p.size(); ++m) {
    const float level = quantize(p[m], group, static_cast<float>(spec.num_levels - 1));
    (*operand)[m] = spec.levels[static_cast<std::size_t>(level)];
  }
  return group.outer;
}

void attend_head(const cpu::AttentionSpec& spec, const cpu::AttentionCall& call, std::int64_t b, std::int64_t h) {
  const std::int64_t tokens = call.tokens, dim = call.head_dim, width = spec.num_heads * dim;
  const float* x = call.qkv + b * tokens * 3 * width + h * dim;
  Quantized q, k, v;
  if (spec.in_blocks) {
    q = quantize_in_blocks(x, 3 * width, tokens, dim, spec.qk_blocks, false);
    k = quantize_in_blocks(x + width, 3 * width, tokens, dim, spec.qk_blocks, false);
    v = quantize_in_blocks(x + 2 * width, 3 * width, tokens, dim, spec.v_blocks, true);
    v.outer.assign(static_cast<std::size_t>(dim), v.outer[0]);  // of every token the same, so of every channel
  } else {
    q = quantize_matrix(x, 3 * width, tokens, dim, false, spec.q, spec.bits);
    k = quantize_matrix(x + width, 3 * width, tokens, dim, false, spec.k, spec.bits);
    v = quantize_matrix(x + 2 * width, 3 * width, tokens, dim, true, spec.v, spec.bits);
  }
  std::vector<float> p(static_cast<std::size_t>(tokens));
  std::vector<std::int32_t> level(p.size());
  for (std::int64_t n = 0; n < tokens; ++n) {
    const float row_scale = q.outer[static_cast<std::size_t>(n)] * spec.scale;
    for (std::int64_t m = 0; m < tokens; ++m) {
      std::int32_t acc = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        acc += q.operand[static_cast<std::size_t>(n * dim + d)] * k.operand[static_cast<std::size_t>(m * dim + d)];
      }
      float& score = p[static_cast<std::size_t>(m)];
      score = (static_cast<float>(acc) * row_scale) * k.outer[static_cast<std::size_t>(m)];
      if (call.bias != nullptr) {
        const std::int64_t head = call.bias_heads == 1 ? 0 : h;
        score += call.bias[((b % call.bias_batch * call.bias_heads + head) * tokens + n) * tokens + m];
      }
    }
    softmax(&p);
    const float outer = quantize_probabilities(spec, p, &level);
    for (std::int64_t d = 0; d < dim; ++d) {
      std::int32_t acc = 0;
      for (std::int64_t m = 0; m < tokens; ++m) {
        acc += level[static_cast<std::size_t>(m)] * v.operand[static_cast<std::size_t>(m * dim + d)];
      }
      call.y[(b * tokens + n) * width + h * dim + d] =
          (static_cast<float>(acc) * outer) * v.outer[static_cast<std::size_t>(d)];
    }
  }
}

}  // namespace

void group_attention(const cpu::AttentionSpec& spec, const cpu::AttentionCall& call) {
  for (std::int64_t b = 0; b < call.batch; ++b) {
    for (std::int64_t h = 0; h < spec.num_heads; ++h) attend_head(spec, call, b, h);
  }
}

}  // namespace reference
}  // namespace qcompiler
