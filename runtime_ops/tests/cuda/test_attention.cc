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
using qcompiler::cpu::Status;

namespace {

struct Case {
  int batch, tokens, heads, head_dim;
  bool in_blocks;
  int bias_batch = 0, bias_heads = 0;
};

void check_case(const Case& c) {
  const AttentionSample sample(c.heads, c.in_blocks);
  const std::int64_t width = static_cast<std::int64_t>(c.heads) * c.head_dim;
  const std::vector<float> qkv = sample_values(c.batch * c.tokens, 3 * width, 7);
  const std::vector<float> bias = sample_values(c.bias_batch * c.bias_heads * c.tokens, c.tokens, 8);
  std::vector<float> want(static_cast<std::size_t>(c.batch * c.tokens * width), -1.0f);
  const DeviceArray<float> device_qkv(qkv), device_bias(bias), device_y(want);
  AttentionCall call;
  call.qkv = qkv.data();
  call.batch = c.batch;
  call.tokens = c.tokens;
  call.head_dim = c.head_dim;
  if (c.bias_batch > 0) {
    call.bias = bias.data();
    call.bias_batch = c.bias_batch;
    call.bias_heads = c.bias_heads;
  }
  call.y = want.data();
  reference::group_attention(sample.spec(), call);

  cuda::Attention* attention = nullptr;
  Status status = cuda::attention_create(sample.spec(), &attention);
  CHECK(status == nullptr, "%s", status);
  if (status != nullptr) return;
  call.qkv = device_qkv.data();
  call.bias = call.bias != nullptr ? device_bias.data() : nullptr;
  call.y = device_y.data();
  status = cuda::attention_run(attention, call, nullptr);
  CHECK(status == nullptr, "%s", status);
  const std::vector<float> y = device_y.read();
  cuda::attention_destroy(attention);

  std::size_t differ = 0, wrong = 0;
  float largest = 0.0f;
  for (const float v : want) largest = std::max(largest, std::fabs(v));
  for (std::size_t i = 0; i < want.size(); ++i) {
    differ += y[i] != want[i] ? 1 : 0;
    wrong += std::fabs(y[i] - want[i]) <= 0.2f * largest ? 0 : 1;
  }
  CHECK(wrong == 0 && differ <= want.size() / 50,
        "batch %d, %d tokens, %d heads of %d, blocks %d, bias %d x %d: %zu of %zu differ, %zu of them much", c.batch,
        c.tokens, c.heads, c.head_dim, c.in_blocks, c.bias_batch, c.bias_heads, differ, want.size(), wrong);
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
