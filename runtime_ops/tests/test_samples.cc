#include "test_samples.h"

#include <cmath>

#include "../reference/reference.h"
#include "check.h"

using namespace qcompiler::cpu;

namespace {

// A row of a group table.
void add_group(float lower, float upper, float scale, float zero_point, float multiplier, float outer,
               std::vector<float>* table) {
  table->insert(table->end(), {lower, upper, scale, zero_point, multiplier, outer});
}

std::vector<float> linear_groups(Grouping grouping, int bits) {
  std::vector<float> table;
  const float zero = static_cast<float>(1 << (bits - 1)), base = 6.0f / static_cast<float>(1 << bits);
  for (int g = 0; g < 3; ++g) {
    const float multiplier = static_cast<float>(g + 1), scale = base * multiplier / 2.0f;
    const float upper = 2.0f * multiplier;
    if (grouping == Grouping::kChannels) {
      add_group(-upper, upper, scale, zero, multiplier, base / 2.0f, &table);
    } else if (grouping == Grouping::kSegments) {
      add_group(-upper, upper, scale, zero, scale, 1.0f, &table);
    } else {
      add_group(-upper, upper, scale, zero, 1.0f, scale, &table);
    }
  }
  return table;
}

}  // namespace

LinearSample::LinearSample(const Choice& choice) : choice_(choice) {
  Random random(choice.seed);
  const std::size_t c = static_cast<std::size_t>(choice.channels), d = static_cast<std::size_t>(choice.outputs);
  weight_.resize(choice.int4 ? (c * d + 1) / 2 : c * d);
  for (auto& byte : weight_) byte = static_cast<std::uint8_t>(random.integer(0, 255));
  for (std::size_t i = 0; i < d; ++i) {
    w_scale_.push_back(random.uniform(0.01f, 0.02f));
    bias_.push_back(random.uniform(-1.0f, 1.0f));
  }
  for (std::size_t i = 0; i < c; ++i) {
    gamma_.push_back(random.uniform(0.5f, 1.5f));
    beta_.push_back(random.uniform(-0.5f, 0.5f));
  }
  groups_ = linear_groups(choice.grouping, choice.bits);
  spec_.channels = choice.channels;
  spec_.outputs = choice.outputs;
  spec_.weight = weight_.data();
  spec_.weight_type = choice.int4 ? WeightType::kInt4 : WeightType::kInt8;
  if (choice.w_blocks) {
    spec_.weight_blocks = choice.channels % 4 == 0 ? 4 : 1;
    for (std::size_t i = 0; i < static_cast<std::size_t>(spec_.weight_blocks) * d; ++i) {
      w_blocks_.push_back(static_cast<std::uint8_t>(random.integer(1, 15) << 4 | random.integer(0, 15)));
    }
    spec_.w_blocks = w_blocks_.data();
  }
  spec_.w_scale = w_scale_.data();
  spec_.bias = bias_.data();
  spec_.groups = {groups_.data(), 3};
  spec_.bits = choice.bits;
  spec_.grouping = choice.grouping;
  spec_.block = choice.channels % 16 == 0 ? 16 : choice.channels;
  spec_.slack = 0.25f;
  spec_.rotate = choice.rotate;
  spec_.gelu = choice.gelu;
  if (choice.norm) {
    spec_.gamma = gamma_.data();
    spec_.beta = beta_.data();
  }
  spec_.normalize = choice.normalize;
}

std::string LinearSample::text() const {
  const auto number = [](int value) { return std::to_string(value); };
  return "grouping " + number(static_cast<int>(choice_.grouping)) + ", [" + number(choice_.channels) + ", " +
         number(choice_.outputs) + "], " + number(choice_.bits) + " bits, int4 " + number(choice_.int4) +
         ", w_blocks " + number(choice_.w_blocks) + ", norm " + number(choice_.norm) + ", normalize " +
         number(choice_.normalize) + ", rotate " + number(choice_.rotate) + ", gelu " +
         number(static_cast<int>(choice_.gelu));
}

AttentionSample::AttentionSample(int heads, bool in_blocks) {
  for (int g = 1; g <= 3; ++g) {
    const float width = static_cast<float>(2 * g), scale = width / 8.0f;
    add_group(-width, width, scale, 8.0f, 1.0f, scale, &bytes_);
    const float upper = std::pow(4.0f, static_cast<float>(g - 3));
    add_group(0.0f, upper, upper / 15.0f, 0.0f, 1.0f, upper / 15.0f, &p_);
  }
  for (int level = 0; level < 16; ++level) levels_.push_back(static_cast<std::uint8_t>(level * level / 2));
  spec_.num_heads = heads;
  spec_.scale = 0.25f;
  spec_.bits = 4;
  spec_.p = {p_.data(), 3};
  spec_.levels = levels_.data();
  spec_.num_levels = 16;
  if (in_blocks) {
    spec_.in_blocks = true;
    spec_.qk_blocks = {4, 8, 1.0f, 0.25f};
    spec_.v_blocks = {5, 4, 0.9f, 0.25f};
  } else {
    spec_.q = spec_.k = spec_.v = {bytes_.data(), 3};
  }
}

std::vector<float> sample_values(std::int64_t rows, std::int64_t channels, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> x(static_cast<std::size_t>(rows * channels));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % static_cast<std::size_t>(channels), n = i / static_cast<std::size_t>(channels);
    x[i] = random.normal() * (0.3f + 0.2f * static_cast<float>(c % 7) + 0.1f * static_cast<float>(n % 5));
  }
  return x;
}

template <>
std::vector<float> as_tensor(const std::vector<float>& values) {
  return values;
}
template <>
std::vector<Half> as_tensor(const std::vector<float>& values) {
  std::vector<Half> tensor;
  for (const float v : values) tensor.push_back(qcompiler::reference::to_half(v));
  return tensor;
}

std::vector<float> values_of(const std::vector<float>& tensor) { return tensor; }
std::vector<float> values_of(const std::vector<Half>& tensor) {
  std::vector<float> values;
  for (const Half v : tensor) values.push_back(qcompiler::reference::from_half(v));
  return values;
}
