// Operands of the weights, their column sums and their largest magnitude, against the definition of one weight.
#include <algorithm>
#include <cstdlib>

#include "../cpu/weights.h"
#include "../reference/reference.h"
#include "check.h"
#include "test_samples.h"

using namespace qcompiler::cpu;

namespace {

void check_operands(const Choice& choice) {
  const LinearSample sample(choice);
  const LinearSpec& spec = sample.spec();
  WeightOperands operands;
  const Status status = weight_operands(spec, &operands);
  CHECK(status == nullptr, "%s", status == nullptr ? "" : status);
  int largest = 0, wrong = 0;
  const std::size_t padded = static_cast<std::size_t>((spec.outputs + 15) / 16 * 16);
  std::vector<std::int64_t> sums(padded, 0);
  for (std::int64_t c = 0; c < spec.channels; ++c) {
    for (std::int64_t d = 0; d < spec.outputs; ++d) {
      const int want = qcompiler::reference::weight_operand(spec, c, d);
      wrong += operands.values[static_cast<std::size_t>(c * spec.outputs + d)] != want;
      largest = std::max(largest, std::abs(want));
      sums[static_cast<std::size_t>(d)] += want;
    }
  }
  const std::string text = sample.text();
  CHECK(wrong == 0, "%s: %d operands are wrong", text.c_str(), wrong);
  CHECK(operands.largest == largest, "%s: largest %d, expected %d", text.c_str(), operands.largest, largest);
  CHECK(std::equal(sums.begin(), sums.end(), operands.column_sum.begin(), operands.column_sum.end()), "%s: column sums",
        text.c_str());
}

// One weight of the largest magnitude at every place of a chunk and behind it.
void check_largest() {
  for (int place = 0; place < 39; ++place) {
    for (const int value : {-128, 127}) {
      std::vector<std::int8_t> weight(2 * 39, 3);
      weight[static_cast<std::size_t>(39 + place)] = static_cast<std::int8_t>(value);
      const std::vector<float> scale(39, 1.0f);
      LinearSpec spec;
      spec.channels = 2;
      spec.outputs = 39;
      spec.weight = weight.data();
      spec.w_scale = scale.data();
      WeightOperands operands;
      CHECK(weight_operands(spec, &operands) == nullptr, "int8");
      CHECK(operands.largest == std::abs(value), "output %d: %d", place, operands.largest);
    }
  }
}

}  // namespace

void test_weights() {
  Choice choice;
  for (const int channels : {1, 2, 3, 48}) {
    for (const int outputs : {1, 2, 15, 16, 17, 31, 32, 33, 47, 63, 80}) {
      for (int parts = 0; parts < 4; ++parts) {
        choice.channels = channels;
        choice.outputs = outputs;
        choice.int4 = (parts & 1) != 0;
        choice.w_blocks = (parts & 2) != 0;
        check_operands(choice);
        ++choice.seed;
      }
    }
  }
  check_largest();
}
