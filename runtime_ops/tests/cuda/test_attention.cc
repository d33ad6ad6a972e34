// Whole attention operators on emulated kernels against reference::group_attention. All but exp is exact; the
// definition's is in double, so a probability on the border of two levels may fall on either side: few do.
#include <algorithm>
#include <cmath>

#include "../../cuda/interface.h"
#include "../../reference/reference.h"
#include "../test_samples.h"
#include "harness.h"

namespace cuda = qcompiler::cuda;
namespace reference = qcompiler::reference;
using qcompiler::cpu::AttentionCall;
using qcompiler::cpu::AttentionCallOf;
using qcompiler::cpu::Half;
using qcompiler::cpu::Status;

namespace {

struct Case {
  int batch, tokens, heads, head_dim;
  bool in_blocks;
  int bias_batch = 0, bias_heads = 0;
};

Status run(const cuda::Attention* attention, const AttentionCall& call) {
  return cuda::attention_run(attention, call, nullptr);
}
Status run(const cuda::Attention* attention, const AttentionCallOf<Half>& call) {
  return cuda::attention_run_half(attention, call, nullptr);
}

template <typename T>
AttentionCallOf<T> call_of(const Case& c, const T* qkv, const T* bias, T* y) {
  AttentionCallOf<T> call;
  call.qkv = qkv;
  call.y = y;
  call.batch = c.batch;
  call.tokens = c.tokens;
  call.head_dim = c.head_dim;
  if (c.bias_batch > 0) {
    call.bias = bias;
    call.bias_batch = c.bias_batch;
    call.bias_heads = c.bias_heads;
  }
  return call;
}

template <typename T>
void check_tensors(const Case& c) {
  const AttentionSample sample(c.heads, c.in_blocks);
  const std::int64_t width = static_cast<std::int64_t>(c.heads) * c.head_dim;
  const std::vector<T> qkv = as_tensor<T>(sample_values(c.batch * c.tokens, 3 * width, 7));
  const std::vector<T> bias = as_tensor<T>(sample_values(c.bias_batch * c.bias_heads * c.tokens, c.tokens, 8));
  const std::vector<float> qkv_values = values_of(qkv), bias_values = values_of(bias);
  std::vector<float> defined(static_cast<std::size_t>(c.batch * c.tokens * width), -1.0f);
  reference::group_attention(sample.spec(),
                             call_of<float>(c, qkv_values.data(), bias_values.data(), defined.data()));
  const std::vector<T> rounded = as_tensor<T>(defined);
  const std::vector<float> want = values_of(rounded);

  cuda::Attention* attention = nullptr;
  Status status = cuda::attention_create(sample.spec(), &attention);
  CHECK(status == nullptr, "%s", status);
  if (status != nullptr) return;
  // One element behind an aligned address.
  const DeviceArray<T> device_qkv(qkv, 1), device_bias(bias, 1), device_y(std::vector<T>(want.size()), 1);
  status = run(attention, call_of<T>(c, device_qkv.data(), device_bias.data(), device_y.data()));
  CHECK(status == nullptr, "%s", status);
  const std::vector<float> y = values_of(device_y.read());
  cuda::attention_destroy(attention);

  std::size_t differ = 0, wrong = 0;
  float largest = 0.0f;
  for (const float v : want) largest = std::max(largest, std::fabs(v));
  for (std::size_t i = 0; i < want.size(); ++i) {
    differ += y[i] != want[i] ? 1 : 0;
    wrong += std::fabs(y[i] - want[i]) <= 0.2f * largest ? 0 : 1;
  }
  CHECK(wrong == 0 && differ <= want.size() / 50,
        "batch %d, %d tokens, %d heads of %d, blocks %d, bias %d x %d, %zu bytes: %zu of %zu differ, %zu of them much",
        c.batch, c.tokens, c.heads, c.head_dim, c.in_blocks, c.bias_batch, c.bias_heads, sizeof(T), differ, want.size(),
        wrong);
}

void check_case(const Case& c) {
  check_tensors<float>(c);
  check_tensors<Half>(c);
}

}  // namespace

void test_cuda_attention(bool quick) {
  for (const bool in_blocks : {false, true}) {
    check_case({2, 5, 2, 16, in_blocks});
    check_case({4, 37, 3, 24, in_blocks, 2, 3});
    check_case({1, 49, 1, 32, in_blocks, 1, 1});
    if (quick) continue;
    check_case({1, 130, 1, 64, in_blocks});
    check_case({2, 20, 2, 168, in_blocks});  // deeper than the left operands that stay in registers
  }
  // No shared memory to speak of: everything in buffers.
  set_shared_limit(1024);
  set_processors(1);  // few blocks, several turns each
  check_case({1, 37, 2, 24, true});
  check_case({1, 37, 2, 24, false, 1, 2});
  set_shared_limit(227 * 1024);
  set_processors(2);
}
