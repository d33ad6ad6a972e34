// Operators on float16 tensors: those on float, between two conversions.
#include "attention.h"
#include "checks.h"
#include "half.h"
#include "linear.h"
#include "scratch.h"

namespace qcompiler {
namespace cpu {
namespace {

// The tensors of a call in float, and what the operator needs itself. The residual lies where the output will be.
struct LinearBuffers {
  float *x, *y;
  void* scratch;
};

std::size_t lay_out(const Linear& linear, const HalfLinearCall& call, int threads, void* memory, LinearBuffers* b) {
  Arena arena(memory);
  const std::int64_t rows = call.batch * call.rows;
  b->x = arena.take<float>(rows * linear.channels);
  b->y = arena.take<float>(rows * linear.outputs);
  b->scratch = arena.take<char>(
      static_cast<std::ptrdiff_t>(linear_scratch_bytes(&linear, call.batch, call.rows, threads)));
  return arena.used();
}

struct AttentionSizes {
  std::int64_t qkv, bias, y;  // values

  AttentionSizes(const Attention& attention, const HalfAttentionCall& call)
      : bias(call.bias != nullptr ? call.bias_batch * call.bias_heads * call.tokens * call.tokens : 0),
        y(call.batch * call.tokens * attention.spec.num_heads * call.head_dim) {
    qkv = 3 * y;
  }
};

struct AttentionBuffers {
  float *qkv, *bias, *y;
  void* scratch;
};

std::size_t lay_out(const Attention& attention, const HalfAttentionCall& call, int threads, void* memory,
                    AttentionBuffers* b) {
  Arena arena(memory);
  const AttentionSizes sizes(attention, call);
  b->qkv = arena.take<float>(sizes.qkv);
  b->bias = arena.take<float>(sizes.bias);
  b->y = arena.take<float>(sizes.y);
  b->scratch = arena.take<char>(static_cast<std::ptrdiff_t>(
      attention_scratch_bytes(&attention, call.batch, call.tokens, call.head_dim, threads)));
  return arena.used();
}

}  // namespace

std::size_t linear_half_scratch_bytes(const Linear* linear, const HalfLinearCall& call, int threads) noexcept {
  if (call.batch < 1 || call.rows < 1) return 0;
  LinearBuffers buffers;
  return lay_out(*linear, call, threads, nullptr, &buffers);
}

Status linear_run_half(const Linear* linear, const HalfLinearCall& call, void* scratch,
                       const Parallel& parallel) noexcept {
  if (Status status = check_linear_call(call)) return status;
  if (call.batch == 0 || call.rows == 0) return nullptr;
  if (Status status = check_scratch("linear", scratch)) return status;
  LinearBuffers buffers;
  lay_out(*linear, call, parallel.threads, scratch, &buffers);
  const Path& path = *linear->path;
  const std::int64_t rows = call.batch * call.rows;
  from_half(path, call.x, rows * linear->channels, buffers.x, parallel);
  LinearCall in_float;
  if (call.residual != nullptr) {
    from_half(path, call.residual, rows * linear->outputs, buffers.y, parallel);
    in_float.residual = buffers.y;
  }
  in_float.x = buffers.x;
  in_float.y = buffers.y;
  in_float.batch = call.batch;
  in_float.rows = call.rows;
  if (Status status = linear_run(linear, in_float, buffers.scratch, parallel)) return status;
  to_half(path, buffers.y, rows * linear->outputs, call.y, parallel);
  return nullptr;
}

std::size_t attention_half_scratch_bytes(const Attention* attention, const HalfAttentionCall& call,
                                         int threads) noexcept {
  if (call.batch < 1 || call.tokens < 1 || call.head_dim < 1) return 0;
  AttentionBuffers buffers;
  return lay_out(*attention, call, threads, nullptr, &buffers);
}

Status attention_run_half(const Attention* attention, const HalfAttentionCall& call, void* scratch,
                          const Parallel& parallel) noexcept {
  if (Status status = check_attention_call(attention->spec, call)) return status;
  if (call.batch == 0 || call.tokens == 0 || call.head_dim == 0) return nullptr;
  if (Status status = check_scratch("attention", scratch)) return status;
  AttentionBuffers buffers;
  lay_out(*attention, call, parallel.threads, scratch, &buffers);
  const Path& path = *attention->path;
  const AttentionSizes sizes(*attention, call);
  from_half(path, call.qkv, sizes.qkv, buffers.qkv, parallel);
  AttentionCall in_float;
  if (call.bias != nullptr) {
    from_half(path, call.bias, sizes.bias, buffers.bias, parallel);
    in_float.bias = buffers.bias;
  }
  in_float.qkv = buffers.qkv;
  in_float.bias_batch = call.bias_batch;
  in_float.bias_heads = call.bias_heads;
  in_float.y = buffers.y;
  in_float.batch = call.batch;
  in_float.tokens = call.tokens;
  in_float.head_dim = call.head_dim;
  if (Status status = attention_run(attention, in_float, buffers.scratch, parallel)) return status;
  to_half(path, buffers.y, sizes.y, call.y, parallel);
  return nullptr;
}

}  // namespace cpu
}  // namespace qcompiler
