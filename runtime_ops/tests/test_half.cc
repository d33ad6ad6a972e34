// float16 tensors: the conversions of a path against the definition, and the definition against arithmetic that knows
// nothing of bits; operators on them against the same operators on float.
#include <cmath>
#include <cstring>
#include <limits>

#include "../cpu/attention.h"
#include "../cpu/half.h"
#include "../cpu/linear.h"
#include "../reference/reference.h"
#include "check.h"
#include "test_samples.h"

using namespace qcompiler::cpu;
namespace reference = qcompiler::reference;

namespace {

constexpr int kInfinity = 0x7c00;  // the bits of positive numbers are below

Half half_of(int bits) { return {static_cast<std::uint16_t>(bits)}; }
bool is_nan(Half x) { return (x.bits & 0x7fff) > kInfinity; }

// What a positive float16 counts in units of 2^-24, the smallest one: neighbours are 1, 2, 4, ... units apart.
void check_definition() {
  std::int64_t units = 0;
  for (int bits = 0; bits < kInfinity; ++bits) {
    const double value = static_cast<double>(units) / (1 << 24);
    const float found = reference::from_half(half_of(bits));
    CHECK(static_cast<double>(found) == value, "%#x is %g, not %g", bits, static_cast<double>(found), value);
    CHECK(reference::from_half(half_of(bits | 0x8000)) == -found, "-%#x", bits);
    const std::int64_t step = std::int64_t{1} << (bits < 1024 ? 0 : bits / 1024 - 1);
    // Exactly between two neighbours the one with the even bits, next to the middle the nearer one.
    const double border = static_cast<double>(2 * units + step) / (1 << 25);
    const float middle = static_cast<float>(border);
    CHECK(static_cast<double>(middle) == border, "the middle behind %#x is no float", bits);
    const int even = bits + bits % 2;
    for (const float sign : {1.0f, -1.0f}) {
      const int set = sign < 0 ? 0x8000 : 0;
      CHECK(reference::to_half(sign * found).bits == (bits | set), "%#x and back", bits);
      CHECK(reference::to_half(sign * middle).bits == (even | set), "tie behind %#x", bits);
      const float below = std::nextafter(middle, 0.0f), above = std::nextafter(middle, 1e6f);
      CHECK(reference::to_half(sign * below).bits == (bits | set), "below the tie behind %#x", bits);
      CHECK(reference::to_half(sign * above).bits == ((bits + 1) | set), "above the tie behind %#x", bits);
    }
    units += step;
  }
  CHECK(std::isinf(reference::from_half(half_of(kInfinity))), "infinity");
  CHECK(reference::from_half(half_of(kInfinity | 0x8000)) < -3e38f, "-infinity");
  for (int bits = kInfinity + 1; bits < 0x8000; ++bits) CHECK(std::isnan(reference::from_half(half_of(bits))), "%#x", bits);
  CHECK(is_nan(reference::to_half(std::numeric_limits<float>::quiet_NaN())), "NaN");
  CHECK(std::signbit(reference::from_half(half_of(0x8000))) && reference::to_half(-0.0f).bits == 0x8000, "-0");
  for (const float large : {65536.0f, 1e6f, 3e38f, std::numeric_limits<float>::infinity()}) {
    CHECK(reference::to_half(large).bits == kInfinity, "%g", static_cast<double>(large));
  }
}

// Every float16, and floats of every size with all that rounding can depend on.
std::vector<Half> all_halves() {
  std::vector<Half> all;
  for (int bits = 0; bits < 65536; ++bits) all.push_back(half_of(bits));
  return all;
}

std::vector<float> many_floats() {
  std::vector<float> all;
  for (std::uint32_t high = 0; high < 65536; ++high) {
    // The last place of a float16 is bit 13, or one above it for small values.
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x2fffu, 0x3000u, 0x7001u, 0xffffu}) {
      const std::uint32_t bits = high << 16 | low;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      all.push_back(value);
    }
  }
  return all;
}

void check_conversions(const char* name, const Path& path) {
  static const std::vector<Half> halves = all_halves();
  static const std::vector<float> floats = many_floats();
  std::vector<float> widened(halves.size());
  from_half(path, halves.data(), static_cast<std::int64_t>(halves.size()), widened.data(), threads(3));
  int wrong = 0;
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float want = reference::from_half(halves[i]);
    const bool same = std::memcmp(&want, &widened[i], sizeof want) == 0;
    wrong += same || (std::isnan(want) && std::isnan(widened[i])) ? 0 : 1;
  }
  CHECK(wrong == 0, "%s: %d float16 values", name, wrong);
  std::vector<Half> narrowed(floats.size());
  to_half(path, floats.data(), static_cast<std::int64_t>(floats.size()), narrowed.data(), threads(3));
  wrong = 0;
  for (std::size_t i = 0; i < floats.size(); ++i) {
    const bool same = narrowed[i].bits == reference::to_half(floats[i]).bits;
    wrong += same || (std::isnan(floats[i]) && is_nan(narrowed[i])) ? 0 : 1;
  }
  CHECK(wrong == 0, "%s: %d floats", name, wrong);
  // Lengths around a vector, in memory of exactly that length.
  for (const int length : {0, 1, 7, 15, 16, 17, 33}) {
    const std::size_t size = static_cast<std::size_t>(length);
    std::vector<float> some(size);
    for (std::size_t i = 0; i < size; ++i) some[i] = std::ldexp(1.001f, static_cast<int>(i) - 28);
    std::vector<Half> to(size);
    to_half(path, some.data(), length, to.data(), threads(2));
    std::vector<float> back(size);
    from_half(path, to.data(), length, back.data(), threads(2));
    for (std::size_t i = 0; i < size; ++i) {
      const bool same = to[i].bits == reference::to_half(some[i]).bits && back[i] == reference::from_half(to[i]);
      CHECK(same, "%s: length %d", name, length);
    }
  }
}

// On float tensors with the same values and the same number of threads.
std::vector<float> run_on_values(const Linear* linear, const HalfLinearCall& call, const std::vector<Half>& x,
                                 const std::vector<Half>& residual, int thread_count) {
  const std::vector<float> x_values = values_of(x), residual_values = values_of(residual);
  std::vector<float> y(residual.size());
  LinearCall in_float;
  in_float.x = x_values.data();
  in_float.residual = call.residual != nullptr ? residual_values.data() : nullptr;
  in_float.y = y.data();
  in_float.batch = call.batch;
  in_float.rows = call.rows;
  const Aligned scratch(linear_scratch_bytes(linear, call.batch, call.rows, thread_count));
  const Status status = linear_run(linear, in_float, scratch.get(), threads(thread_count));
  CHECK(status == nullptr, "%s", status);
  return y;
}

void check_linear(const char* name, const Choice& choice, bool adds, int thread_count) {
  const LinearSample sample(choice);
  const LinearOwner owner(sample);
  CHECK(owner.failure() == nullptr, "%s: %s", name, owner.failure());
  if (owner.failure() != nullptr) return;
  HalfLinearCall call;
  call.batch = 2;
  call.rows = 5;
  const std::int64_t rows = call.batch * call.rows;
  const std::vector<Half> x = as_tensor<Half>(sample_values(rows, choice.channels, 3));
  const std::vector<Half> residual = as_tensor<Half>(sample_values(rows, choice.outputs, 4));
  std::vector<Half> y = residual;  // in place
  call.x = x.data();
  call.residual = adds ? y.data() : nullptr;
  call.y = y.data();
  const std::vector<Half> want = as_tensor<Half>(run_on_values(owner.get(), call, x, residual, thread_count));
  const Aligned scratch(linear_half_scratch_bytes(owner.get(), call, thread_count));
  const Status status = linear_run_half(owner.get(), call, scratch.get(), threads(thread_count));
  CHECK(status == nullptr, "%s: %s", name, status);
  CHECK(std::memcmp(y.data(), want.data(), y.size() * sizeof(Half)) == 0, "%s: %s, residual %d, %d threads", name,
        sample.text().c_str(), adds, thread_count);
}

void check_attention(const char* name, bool in_blocks, bool adds, int thread_count) {
  const AttentionSample sample(2, in_blocks);
  const AttentionOwner owner(sample);
  CHECK(owner.failure() == nullptr, "%s: %s", name, owner.failure());
  if (owner.failure() != nullptr) return;
  HalfAttentionCall call;
  call.batch = 2;
  call.tokens = 19;
  call.head_dim = 24;
  const std::int64_t width = 2 * call.head_dim;
  const std::vector<Half> qkv = as_tensor<Half>(sample_values(call.batch * call.tokens, 3 * width, 5));
  const std::vector<Half> bias = as_tensor<Half>(sample_values(2 * call.tokens, call.tokens, 6));
  std::vector<Half> y(static_cast<std::size_t>(call.batch * call.tokens * width));
  call.qkv = qkv.data();
  call.y = y.data();
  const std::vector<float> qkv_values = values_of(qkv), bias_values = values_of(bias);
  std::vector<float> in_float_y(y.size());
  AttentionCall in_float;
  in_float.batch = call.batch;
  in_float.tokens = call.tokens;
  in_float.head_dim = call.head_dim;
  in_float.qkv = qkv_values.data();
  in_float.y = in_float_y.data();
  if (adds) {
    call.bias = bias.data();
    in_float.bias = bias_values.data();
    call.bias_batch = in_float.bias_batch = 1;
    call.bias_heads = in_float.bias_heads = 2;
  }
  const Attention* const attention = owner.get();
  const Aligned plain(attention_scratch_bytes(attention, call.batch, call.tokens, call.head_dim, thread_count));
  Status status = attention_run(attention, in_float, plain.get(), threads(thread_count));
  CHECK(status == nullptr, "%s: %s", name, status);
  const Aligned scratch(attention_half_scratch_bytes(attention, call, thread_count));
  status = attention_run_half(attention, call, scratch.get(), threads(thread_count));
  CHECK(status == nullptr, "%s: %s", name, status);
  const std::vector<Half> want = as_tensor<Half>(in_float_y);
  CHECK(std::memcmp(y.data(), want.data(), y.size() * sizeof(Half)) == 0, "%s: blocks %d, bias %d, %d threads", name,
        in_blocks, adds, thread_count);
}

void check_refusals(const char* name) {
  const Choice choice;
  const LinearSample sample(choice);
  const LinearOwner owner(sample);
  HalfLinearCall call;
  CHECK(linear_half_scratch_bytes(owner.get(), call, 1) == 0, "%s: nothing to do", name);
  CHECK(linear_run_half(owner.get(), call, nullptr, threads(1)) == nullptr, "%s: nothing to do", name);
  std::vector<Half> memory(static_cast<std::size_t>(choice.channels + choice.outputs));
  call.rows = 1;
  call.y = memory.data();
  const Aligned scratch(linear_half_scratch_bytes(owner.get(), call, 1));
  CHECK(linear_run_half(owner.get(), call, scratch.get(), threads(1)) != nullptr, "%s: no input", name);
  call.x = memory.data();
  CHECK(linear_run_half(owner.get(), call, nullptr, threads(1)) != nullptr, "%s: no scratch memory", name);
  const AttentionSample attention_sample(2, false);
  const AttentionOwner attention(attention_sample);
  HalfAttentionCall attention_call;
  CHECK(attention_half_scratch_bytes(attention.get(), attention_call, 1) == 0, "%s: no tokens", name);
  attention_call.tokens = attention_call.head_dim = 1;
  CHECK(attention_run_half(attention.get(), attention_call, scratch.get(), threads(1)) != nullptr, "%s: no qkv", name);
}

}  // namespace

void test_half(const char* name) {
  const LinearSample sample((Choice()));
  const LinearOwner owner(sample);
  const Path& path = *owner.get()->path;
  if (is_reference(path)) check_definition();
  check_conversions(name, path);
  for (const int thread_count : {1, 3}) {
    for (const Grouping grouping : {Grouping::kRows, Grouping::kChannels, Grouping::kSegments, Grouping::kBlocks}) {
      for (const bool adds : {false, true}) {
        Choice choice;
        choice.grouping = grouping;
        choice.int4 = adds;
        choice.norm = !adds;
        choice.gelu = adds ? Gelu::kNone : Gelu::kErf;
        check_linear(name, choice, adds, thread_count);
      }
    }
    for (const bool in_blocks : {false, true}) {
      for (const bool adds : {false, true}) check_attention(name, in_blocks, adds, thread_count);
    }
  }
  check_refusals(name);
}
