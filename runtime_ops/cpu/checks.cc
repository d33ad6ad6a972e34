#include "checks.h"

#include <initializer_list>

#include "error.h"

namespace qcompiler {
namespace cpu {

Status check_linear(const LinearSpec& spec) {
  if (spec.channels < 1 || spec.outputs < 1 || spec.channels > 1 << 24 || spec.outputs > 1 << 24) {
    return error("linear: weight of shape [%lld, %lld]", static_cast<long long>(spec.channels),
                 static_cast<long long>(spec.outputs));
  }
  if (spec.weight == nullptr || spec.w_scale == nullptr) return error("linear: weight or w_scale is missing");
  const bool power = spec.rotate >= 1 && spec.rotate <= 128 && (spec.rotate & (spec.rotate - 1)) == 0;
  if (!power || spec.channels % spec.rotate != 0) {
    return error("linear input: rotation of %lld of %lld channels, not a power of two up to 128 that divides them",
                 static_cast<long long>(spec.rotate), static_cast<long long>(spec.channels));
  }
  if (spec.grouping == Grouping::kBlocks && spec.block > 0 && spec.channels % spec.block != 0) {
    return error("linear input: blocks of %lld do not divide %lld channels", static_cast<long long>(spec.block),
                 static_cast<long long>(spec.channels));
  }
  return nullptr;
}

Status check_accumulator(const LinearSpec& spec, int operand, int weight) {
  const double bound = static_cast<double>(spec.channels) * operand * weight;
  if (bound < 2147483648.0) return nullptr;
  return error("linear: %lld channels with operands up to %d and weights up to %d overflow int32",
               static_cast<long long>(spec.channels), operand, weight);
}

template <typename T>
Status check_linear_call(const LinearCallOf<T>& call) {
  if (call.batch < 0 || call.rows < 0) return error("linear: negative shape");
  if (call.batch == 0 || call.rows == 0) return nullptr;
  if (call.x == nullptr || call.y == nullptr) return error("linear: input or output is missing");
  return nullptr;
}
template Status check_linear_call(const LinearCall& call);
template Status check_linear_call(const HalfLinearCall& call);

Status check_attention(const AttentionSpec& spec) {
  if (spec.num_heads < 1) return error("attention: %lld heads", static_cast<long long>(spec.num_heads));
  if (spec.levels == nullptr || spec.num_levels < 1 || spec.num_levels > 256) {
    return error("attention: %d levels, not in 1 .. 256", spec.num_levels);
  }
  return nullptr;
}

template <typename T>
Status check_attention_call(const AttentionSpec& spec, const AttentionCallOf<T>& call) {
  if (call.batch < 0 || call.tokens < 0 || call.head_dim < 0) return error("attention: negative shape");
  // 255 * 127 * 65536 is the largest power of two of tokens that int32 sums.
  if (call.tokens > 65536 || call.head_dim > 65536) return error("attention: more than 65536 tokens or head channels");
  if (call.batch == 0 || call.tokens == 0 || call.head_dim == 0) return nullptr;
  if (call.qkv == nullptr || call.y == nullptr) return error("attention: input or output is missing");
  if (spec.in_blocks) {
    for (const std::int64_t block : {spec.qk_blocks.block, spec.v_blocks.block}) {
      if (call.head_dim % block == 0) continue;
      return error("attention: blocks of %lld do not divide %lld channels of a head", static_cast<long long>(block),
                   static_cast<long long>(call.head_dim));
    }
  }
  if (call.bias != nullptr) {
    if (call.bias_batch < 1 || call.batch % call.bias_batch != 0) {
      return error("attention: %lld rows of bias do not divide a batch of %lld",
                   static_cast<long long>(call.bias_batch), static_cast<long long>(call.batch));
    }
    if (call.bias_heads != 1 && call.bias_heads != spec.num_heads) {
      return error("attention: bias for %lld heads of %lld", static_cast<long long>(call.bias_heads),
                   static_cast<long long>(spec.num_heads));
    }
  }
  return nullptr;
}
template Status check_attention_call(const AttentionSpec& spec, const AttentionCall& call);
template Status check_attention_call(const AttentionSpec& spec, const HalfAttentionCall& call);

Status check_scratch(const char* name, const void* scratch) {
  if (scratch != nullptr && reinterpret_cast<std::uintptr_t>(scratch) % kScratchAlignment == 0) return nullptr;
  return error("%s: scratch memory is missing or not aligned to 64 bytes", name);
}

}  // namespace cpu
}  // namespace qcompiler
