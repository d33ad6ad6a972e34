// The operators' definitions: naive, one loop per sum, no blocking. Everything else in this library must agree with
// them, and the path "reference" runs them.
//
// These functions allocate and may throw std::bad_alloc; the public interface in cpu/kernels.h catches it.
#ifndef QCOMPILER_REFERENCE_REFERENCE_H_
#define QCOMPILER_REFERENCE_REFERENCE_H_

#include <cstdint>

#include "../cpu/kernels.h"

namespace qcompiler {
namespace reference {

// One row of a group table, by name.
struct Group {
  float lower, upper, scale, zero_point, multiplier, outer;
};
Group group_at(const cpu::GroupTable& table, int index);

// Index of the group nearest to the range [lower, upper]; the lowest index on ties.
int assign_group(float lower, float upper, const cpu::GroupTable& table);

// clip(rint(x * (1 / scale)) + zero_point, 0, top), as a float.
float quantize(float x, const Group& group, float top);

// q - zero_point saturated to what the attention kernels hold: [-127, 127].
std::int32_t signed_operand(float code, const Group& group);

// multiplier * (q - zero_point), saturated likewise.
std::int32_t multiplied_operand(float code, const Group& group);

// The outer scale of `rows` rows of channels in blocks that share it.
float block_scale(const cpu::BlockSpec& spec, const float* x, std::int64_t ld, std::int64_t rows,
                  std::int64_t channels);

// Operands of one row in blocks of channels.
void quantize_blocks(const cpu::BlockSpec& spec, const float* x, std::int64_t channels, float scale,
                     std::int32_t* operand);

// int4 or int8 weight [channel, output], multiplier and zero point of its block applied.
std::int32_t weight_operand(const cpu::LinearSpec& spec, std::int64_t channel, std::int64_t output);

// LayerNormalization of one row; beta may be nullptr. Double inside.
void layer_norm(const float* x, std::int64_t count, const float* gamma, const float* beta, float epsilon, float* out);

// Divides a row by its root mean square in place; returns what it was divided by (1 for zeros). Double inside.
float row_norm(float* x, std::int64_t count);

// Every `size` neighbouring channels of a row become their Walsh-Hadamard transform, not normalised, in place. `size`
// is a power of two that divides `count`; the stages and the order inside them are the definition.
void rotate_row(float* x, std::int64_t count, std::int64_t size);

// Activation of one value; double inside.
float gelu(float y, cpu::Gelu kind);

// The value of a float16, and the float16 nearest to a value, ties to even.
float from_half(cpu::Half x);
cpu::Half to_half(float x);

void group_linear(const cpu::LinearSpec& spec, const cpu::LinearCall& call);

// The part of group_linear behind LayerNormalization, rotation and row norm: `x` [batch, rows, C] is what the quantizer
// sees and `norm` [batch, rows] what its rows were divided by. call.x is not read.
void group_linear_prepared(const cpu::LinearSpec& spec, const float* x, const float* norm,
                           const cpu::LinearCall& call);

void group_attention(const cpu::AttentionSpec& spec, const cpu::AttentionCall& call);

}  // namespace reference
}  // namespace qcompiler

#endif  // QCOMPILER_REFERENCE_REFERENCE_H_
