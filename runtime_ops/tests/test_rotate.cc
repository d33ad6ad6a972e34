// Rotated channels: the definition against sums of signed integers, the stage against the definition bit for bit, whole
// layers against the same layers on rows that were rotated before.
#include <algorithm>
#include <cstring>
#include <limits>

#include "../cpu/path.h"
#include "../reference/reference.h"
#include "check.h"

using namespace qcompiler::cpu;
namespace reference = qcompiler::reference;

namespace {

const int kSizes[] = {1, 2, 4, 8, 16, 32, 64, 128};

int padded(int cols) { return (cols + 15) / 16 * 16; }

// Entry (i, j) of a Hadamard matrix: 1 where i and j share an even number of bits, otherwise -1.
int hadamard(int i, int j) {
  int sign = 1;
  for (int common = i & j; common != 0; common &= common - 1) sign = -sign;
  return sign;
}

void test_definition() {
  Random random(1);
  for (const int size : kSizes) {
    const int count = 3 * size;
    std::vector<int> whole(static_cast<std::size_t>(count));
    for (int& v : whole) v = random.integer(-1000, 1000);
    std::vector<float> x(whole.begin(), whole.end());
    reference::rotate_row(x.data(), count, size);
    int wrong = 0;
    for (int c = 0; c < count; ++c) {
      int sum = 0;
      for (int j = 0; j < size; ++j) {
        sum += hadamard(c % size, j) * whole[static_cast<std::size_t>(c / size * size + j)];
      }
      wrong += x[static_cast<std::size_t>(c)] != static_cast<float>(sum);
    }
    CHECK(wrong == 0, "sets of %d: %d wrong", size, wrong);
  }
  // 2^24 + 1 is no float: neighbours are added first, then pairs of pairs.
  float order[] = {16777216.0f, 1.0f, 1.0f, 1.0f};
  reference::rotate_row(order, 4, 4);
  CHECK(order[0] == 16777218.0f && order[2] == 16777214.0f, "order: %.9g, %.9g", static_cast<double>(order[0]),
        static_cast<double>(order[2]));
}

void test_stage(const char* name, const Stages& stages) {
  constexpr int kRows = 3;
  for (const int size : kSizes) {
    for (const int sets : {1, 2, 3, 5, 6, 8, 24}) {
      const int cols = sets * size, ld = cols + 3, ld_out = padded(cols) + 16;
      Random random(static_cast<std::uint64_t>(cols));
      // Between the rows lies what must not count; behind the last one lies nothing.
      std::vector<float> x(static_cast<std::size_t>((kRows - 1) * ld + cols), std::numeric_limits<float>::quiet_NaN());
      for (int m = 0; m < kRows; ++m) {
        for (int c = 0; c < cols; ++c) {
          x[static_cast<std::size_t>(m * ld + c)] = random.normal() * (c % 7 == 0 ? 100.0f : 1.0f);
        }
      }
      std::fill_n(x.begin() + ld, std::max(cols / 2, 1), -0.0f);
      std::vector<float> out(static_cast<std::size_t>(kRows * ld_out), -99.0f), inside = out;
      stages.rotate_rows(x.data(), ld, kRows, cols, size, out.data(), ld_out);
      for (int m = 0; m < kRows; ++m) {
        std::copy_n(&x[static_cast<std::size_t>(m * ld)], cols, &inside[static_cast<std::size_t>(m * ld_out)]);
      }
      stages.rotate_rows(inside.data(), ld_out, kRows, cols, size, inside.data(), ld_out);
      for (int m = 0; m < kRows; ++m) {
        const float* const row = &x[static_cast<std::size_t>(m * ld)];
        std::vector<float> want(row, row + cols);
        reference::rotate_row(want.data(), cols, size);
        const std::size_t at = static_cast<std::size_t>(m * ld_out), bytes = sizeof(float) * want.size();
        CHECK(std::memcmp(want.data(), &out[at], bytes) == 0, "%s: %d channels in sets of %d", name, cols, size);
        CHECK(std::memcmp(want.data(), &inside[at], bytes) == 0, "%s: %d channels in sets of %d in place", name, cols,
              size);
        bool kept = true;
        for (int c = padded(cols); c < ld_out; ++c) kept = kept && out[at + static_cast<std::size_t>(c)] == -99.0f;
        CHECK(kept, "%s: %d channels in sets of %d: written too far", name, cols, size);
      }
    }
  }
}

struct Case {
  Grouping grouping;
  bool norm, normalize;
};

// LayerNormalization as the path itself computes it.
void layer_norm(const LinearSpec& spec, std::vector<float>* x) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  const int cols = static_cast<int>(spec.channels);
  std::vector<float> gamma(static_cast<std::size_t>(padded(cols))), beta = gamma, row = gamma;
  std::copy_n(spec.gamma, cols, gamma.begin());
  std::copy_n(spec.beta, cols, beta.begin());
  for (std::size_t at = 0; at < x->size(); at += static_cast<std::size_t>(cols)) {
    float* const to = x->data() + at;
    float mean, rstd;
    if (is_reference(path)) {
      reference::layer_norm(to, cols, spec.gamma, spec.beta, spec.epsilon, row.data());
    } else {
      path.stages->row_stats(to, cols, 1, cols, spec.epsilon, &mean, &rstd);
      path.stages->normalize(to, cols, 1, cols, &mean, &rstd, gamma.data(), beta.data(), row.data(), 0);
    }
    std::copy_n(row.begin(), cols, to);
  }
}

std::vector<float> run(const char* name, const LinearSpec& spec, const std::vector<float>& x, int batch, int rows,
                       int thread_count) {
  Linear* linear = nullptr;
  const Status status = linear_create(spec, &linear);
  CHECK(status == nullptr, "%s: %s", name, status == nullptr ? "" : status);
  std::vector<float> y(static_cast<std::size_t>(batch * rows * spec.outputs), -1.0f);
  if (linear == nullptr) return y;
  LinearCall call;
  call.x = x.data();
  call.y = y.data();
  call.batch = batch;
  call.rows = rows;
  const Aligned scratch(linear_scratch_bytes(linear, batch, rows, thread_count));
  CHECK(linear_run(linear, call, scratch.get(), threads(thread_count)) == nullptr, "%s", name);
  linear_destroy(linear);
  return y;
}

void test_layer(const char* name, const Case& c, int channels, int size, int rows) {
  const int batch = 2, outputs = 19;
  Random random(static_cast<std::uint64_t>(channels + size));
  std::vector<float> x(static_cast<std::size_t>(batch * rows * channels));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = random.normal() * (i % 11 == 0 ? 8.0f : 1.0f);
  std::vector<std::int8_t> weight(static_cast<std::size_t>(channels * outputs));
  for (auto& w : weight) w = static_cast<std::int8_t>(random.integer(-127, 127));
  std::vector<float> w_scale(outputs), gamma(static_cast<std::size_t>(channels)), beta = gamma;
  for (float& v : w_scale) v = random.uniform(0.01f, 0.02f);
  for (float& v : gamma) v = random.uniform(0.5f, 1.5f);
  for (float& v : beta) v = random.uniform(-0.5f, 0.5f);
  const bool channel_groups = c.grouping == Grouping::kChannels;
  std::vector<float> groups;
  for (int g = 1; g <= 4; ++g) {
    const float multiple = static_cast<float>(g), scale = 0.5f * multiple;
    const float multiplier = c.grouping == Grouping::kRows ? 1.0f : channel_groups ? multiple : scale;
    const float outer = c.grouping == Grouping::kRows ? scale : channel_groups ? 0.5f : 1.0f;
    groups.insert(groups.end(), {-8.0f * scale, 7.0f * scale, scale, 8.0f, multiplier, outer});
  }
  LinearSpec spec;
  spec.channels = channels;
  spec.outputs = outputs;
  spec.weight = weight.data();
  spec.w_scale = w_scale.data();
  spec.groups = {groups.data(), 4};
  spec.bits = 4;
  spec.grouping = c.grouping;
  spec.block = channels % 16 == 0 ? 16 : channels;
  spec.slack = 0.25f;
  spec.normalize = c.normalize;
  spec.rotate = size;
  if (c.norm) {
    spec.gamma = gamma.data();
    spec.beta = beta.data();
  }
  std::vector<float> rotated = x;
  if (c.norm) layer_norm(spec, &rotated);
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(channels)) {
    reference::rotate_row(&rotated[at], channels, size);
  }
  LinearSpec plain = spec;
  plain.gamma = plain.beta = nullptr;
  plain.rotate = 1;
  const std::vector<float> want = run(name, plain, rotated, batch, rows, 1);
  for (const int thread_count : {1, 3}) {
    CHECK(run(name, spec, x, batch, rows, thread_count) == want,
          "%s: grouping %d, LayerNorm %d, row norm %d, %d channels in sets of %d, %d threads", name,
          static_cast<int>(c.grouping), c.norm, c.normalize, channels, size, thread_count);
  }
  CHECK(run(name, plain, x, batch, rows, 1) != want, "%s: the rotation changes nothing", name);
}

void test_refusals(const char* name) {
  const std::vector<std::int8_t> weight(192, 1);
  const float w_scale = 1.0f;
  LinearSpec spec;
  spec.outputs = 1;
  spec.weight = weight.data();
  spec.w_scale = &w_scale;
  spec.grouping = Grouping::kBlocks;
  spec.bits = 4;
  spec.block = 4;
  const auto accepts = [&](int channels, std::int64_t size) {
    spec.channels = channels;
    spec.rotate = size;
    Linear* linear = nullptr;
    const Status status = linear_create(spec, &linear);
    linear_destroy(linear);
    return status == nullptr;
  };
  for (const int size : kSizes) CHECK(accepts(128, size), "%s: sets of %d", name, size);
  for (const std::int64_t size : {std::int64_t{-2}, std::int64_t{0}, std::int64_t{3}, std::int64_t{96},
                                  std::int64_t{192}, std::int64_t{256}, std::int64_t{1} << 32}) {
    CHECK(!accepts(192, size), "%s: sets of %lld", name, static_cast<long long>(size));
  }
  CHECK(accepts(96, 32) && !accepts(96, 64) && !accepts(100, 8), "%s: sets that do not divide the channels", name);
}

}  // namespace

void test_rotate(const char* name, bool quick) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  if (is_reference(path)) {
    test_definition();
  } else {
    test_stage(name, *path.stages);
  }
  const Case cases[] = {{Grouping::kBlocks, false, false}, {Grouping::kBlocks, true, false},
                        {Grouping::kBlocks, true, true},   {Grouping::kRows, false, true},
                        {Grouping::kChannels, true, true}, {Grouping::kSegments, true, false}};
  for (const Case& c : cases) {
    for (const int size : quick ? std::vector<int>{4, 32} : std::vector<int>{2, 4, 8, 16, 32, 64, 128}) {
      test_layer(name, c, size < 16 ? 5 * size : 128, size, quick ? 5 : 37);
    }
  }
  test_refusals(name);
}
