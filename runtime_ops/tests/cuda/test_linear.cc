// Whole linear layers on emulated kernels against reference::group_linear: equal bit for bit, but for GELU, whose
// definition is in double. float16 tensors against the definition on their values, rounded once.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "../../cuda/interface.h"
#include "../../reference/reference.h"
#include "../test_samples.h"
#include "harness.h"

namespace cuda = qcompiler::cuda;
namespace reference = qcompiler::reference;
using qcompiler::cpu::Gelu;
using qcompiler::cpu::Grouping;
using qcompiler::cpu::Half;
using qcompiler::cpu::LinearCall;
using qcompiler::cpu::LinearCallOf;
using qcompiler::cpu::Status;

namespace {

struct Case {
  Choice choice;
  int batch, rows;
  bool residual;
};

Status run(const cuda::Linear* linear, const LinearCall& call) { return cuda::linear_run(linear, call, nullptr); }
Status run(const cuda::Linear* linear, const LinearCallOf<Half>& call) {
  return cuda::linear_run_half(linear, call, nullptr);
}

// The distance of a value to the next one of its type.
float spacing(float, const float*) { return 0.0f; }
float spacing(float value, const Half*) { return std::max(std::ldexp(1.0f, std::ilogb(value) - 10), 6e-8f); }

template <typename T>
void check_tensors(const Case& c, int shift) {
  const LinearSample sample(c.choice);
  const qcompiler::cpu::LinearSpec& spec = sample.spec();
  const std::int64_t rows = static_cast<std::int64_t>(c.batch) * c.rows;
  const std::size_t size = static_cast<std::size_t>(rows * spec.outputs);
  std::vector<float> values = sample_values(rows, spec.channels, c.choice.seed + 5);
  std::fill(values.begin(), values.begin() + spec.channels, 0.0f);  // a row of zeros
  const std::vector<T> input = as_tensor<T>(values);
  const std::vector<T> added = as_tensor<T>(sample_values(rows, spec.outputs, c.choice.seed + 9));
  const std::vector<float> x = values_of(input), residual = values_of(added);

  std::vector<float> y(size, -1.0f);
  LinearCall in_float;
  in_float.batch = c.batch;
  in_float.rows = c.rows;
  in_float.x = x.data();
  in_float.residual = c.residual ? residual.data() : nullptr;
  in_float.y = y.data();
  reference::group_linear(spec, in_float);
  const std::vector<float> want = values_of(as_tensor<T>(y));

  cuda::Linear* linear = nullptr;
  Status status = cuda::linear_create(spec, &linear);
  CHECK(status == nullptr, "%s: %s", sample.text().c_str(), status);
  if (status != nullptr) return;
  // The output takes the place of the residual, where there is one.
  const DeviceArray<T> device_x(input, shift), device_y(c.residual ? added : as_tensor<T>(y), shift);
  LinearCallOf<T> call;
  call.batch = c.batch;
  call.rows = c.rows;
  call.x = device_x.data();
  call.residual = c.residual ? device_y.data() : nullptr;
  call.y = device_y.data();
  status = run(linear, call);
  CHECK(status == nullptr, "%s: %s", sample.text().c_str(), status);
  const std::vector<float> got = values_of(device_y.read());
  cuda::linear_destroy(linear);
  std::size_t wrong = 0, differ = 0;
  for (std::size_t i = 0; i < size; ++i) {
    float allowed = 0.0f;
    if (spec.gelu != Gelu::kNone) {
      allowed = 2.5e-7f * std::max(1.0f, std::fabs(want[i]) + std::fabs(residual[i])) +
                spacing(want[i], static_cast<const T*>(nullptr));
    }
    wrong += std::fabs(got[i] - want[i]) <= allowed ? 0 : 1;
    differ += got[i] == want[i] ? 0 : 1;
  }
  // To float16, two results that differ are rounded to two values only on both sides of a border.
  const bool few = sizeof(T) > 2 || differ <= 1 + size / 200;
  CHECK(wrong == 0 && few, "%s, batch %d, %d rows, residual %d, shift %d, %zu bytes: %zu of %zu wrong, %zu differ",
        sample.text().c_str(), c.batch, c.rows, c.residual, shift, sizeof(T), wrong, size, differ);
}

void check_case(const Case& c, int shift) {
  check_tensors<float>(c, shift);
  check_tensors<Half>(c, shift);
  if (shift > 0) check_tensors<Half>(c, 2 * shift);
}

void check_refusals() {
  Choice choice;
  const LinearSample sample(choice);
  cuda::Linear* linear = nullptr;
  qcompiler::cpu::LinearSpec spec = sample.spec();
  spec.groups.count = 0;
  CHECK(cuda::linear_create(spec, &linear) != nullptr && linear == nullptr, "no groups");
  spec = sample.spec();
  spec.rotate = 3;
  CHECK(cuda::linear_create(spec, &linear) != nullptr, "rotation of 3");
  CHECK(cuda::linear_create(sample.spec(), &linear) == nullptr, "the sample itself");
  LinearCall call;
  CHECK(cuda::linear_run(linear, call, nullptr) == nullptr, "nothing to do");
  call.rows = 1;
  CHECK(cuda::linear_run(linear, call, nullptr) != nullptr, "no input");
  LinearCallOf<Half> half;
  half.rows = 1;
  CHECK(cuda::linear_run_half(linear, half, nullptr) != nullptr, "no input of float16");
  cuda::linear_destroy(linear);
}

}  // namespace

void test_cuda_linear(bool quick) {
  check_refusals();
  std::uint64_t seed = 1;
  const Grouping groupings[] = {Grouping::kRows, Grouping::kChannels, Grouping::kSegments, Grouping::kBlocks};
  for (const Grouping grouping : groupings) {
    for (const bool norm : {false, true}) {
      Choice choice;
      choice.grouping = grouping;
      choice.norm = norm;
      choice.seed = ++seed;
      choice.w_blocks = norm;
      choice.int4 = !norm;
      choice.normalize = norm && grouping != Grouping::kBlocks;
      choice.gelu = norm ? Gelu::kNone : Gelu::kErf;
      check_case({choice, 2, 7, !norm}, 0);
      choice.gelu = Gelu::kTanh;
      choice.channels = 37;  // odd: one channel per lane
      choice.outputs = 19;
      choice.bits = grouping == Grouping::kBlocks ? 7 : 8;
      check_case({choice, 3, 5, true}, 1);
      choice.gelu = Gelu::kNone;
      choice.rotate = grouping == Grouping::kBlocks ? 128 : 1;
      choice.channels = 256;
      choice.outputs = 72;
      check_case({choice, 1, 33, norm}, norm ? 0 : 1);
      choice.rotate = 1;
      choice.channels = 448;  // more tiles than the ring holds
      choice.outputs = 16;
      check_case({choice, 1, 9, norm}, 0);
      if (quick) continue;
      choice.rotate = grouping == Grouping::kBlocks ? 32 : 1;
      choice.channels = 96;
      choice.outputs = 132;
      check_case({choice, 2, 70, false}, 0);
    }
  }
  // Every shape of a tile, with rows and columns that fill none, and rows in buffers of their own.
  for (const int processors : {1, 3, 1000}) {
    set_processors(processors);
    Choice choice;
    choice.grouping = Grouping::kBlocks;
    choice.channels = 200;
    choice.outputs = 130;
    choice.norm = true;
    check_case({choice, 1, 131, true}, 0);
    choice.grouping = Grouping::kRows;
    choice.channels = 68;
    check_case({choice, 1, 97, true}, 0);
  }
  // Rows that do not fit shared memory, in fewer buffers than there are rows.
  set_processors(3);
  set_shared_limit(32 * 1024);
  Choice choice;
  choice.grouping = Grouping::kBlocks;
  choice.channels = 8208;
  choice.outputs = 3;
  choice.norm = true;
  check_case({choice, 1, 30, false}, 0);
  set_shared_limit(227 * 1024);
  set_processors(2);
}
