// Whole linear layers against reference::group_linear, bit for bit where only + and * in the defined order are
// involved.
#include <algorithm>
#include <cstring>
#include <limits>

#include "../cpu/path.h"
#include "../reference/reference.h"
#include "check.h"

using namespace qcompiler::cpu;
namespace reference = qcompiler::reference;

namespace {

struct Shape {
  int batch, rows, channels, outputs;
};

struct Layer {
  LinearSpec spec;
  std::vector<std::uint8_t> weight, w_blocks;
  std::vector<float> w_scale, bias, gamma, beta, groups;
};

void fill_groups(Grouping grouping, int count, int bits, Random* random, std::vector<float>* groups) {
  const float top = static_cast<float>((1 << bits) - 1);
  for (int g = 0; g < count; ++g) {
    const float width = 0.5f + 4.0f * static_cast<float>(g + 1) / static_cast<float>(count);
    const float lower = -width * random->uniform(0.2f, 0.8f), upper = lower + width;
    float scale = width / top, multiplier = 1.0f;
    if (grouping == Grouping::kChannels) {
      // Multiples of one base scale; at 8 bits the operand still saturates for some codes.
      multiplier = static_cast<float>(std::max(1, std::min(g + 1, 127 / (1 << bits))));
      scale = 0.04f * multiplier;
    }
    const float zero = std::rint(-lower / scale);
    const float outer = grouping == Grouping::kRows ? scale : (grouping == Grouping::kChannels ? 0.04f : 1.0f);
    if (grouping == Grouping::kSegments) multiplier = scale;
    groups->insert(groups->end(), {lower, upper, scale, std::min(zero, top), multiplier, outer});
  }
}

// The divisor of `count` next below its half, or all of it.
int block_of(int count) {
  for (int block = count / 2; block > 1; --block) {
    if (count % block == 0) return block;
  }
  return count;
}

void make_weight_blocks(Random* random, Layer* layer) {
  LinearSpec& spec = layer->spec;
  spec.weight_blocks = spec.channels / block_of(static_cast<int>(spec.channels));
  // Small multipliers, so that not all operands saturate; 8-bit weights do with most of them.
  for (std::int64_t i = 0; i < spec.weight_blocks * spec.outputs; ++i) {
    layer->w_blocks.push_back(static_cast<std::uint8_t>(random->integer(1, 4) << 4 | random->integer(0, 15)));
  }
  if (!layer->w_blocks.empty()) layer->w_blocks[0] = 0xf0;  // 15 * (W + 8)
  spec.w_blocks = layer->w_blocks.data();
}

void make_layer(const Shape& shape, Grouping grouping, int bits, bool int4, Gelu gelu, bool norm, Layer* layer) {
  Random random(static_cast<std::uint64_t>(shape.channels * 31 + shape.outputs * 7 + bits));
  const std::size_t c = static_cast<std::size_t>(shape.channels), d = static_cast<std::size_t>(shape.outputs);
  layer->weight.resize(int4 ? (c * d + 1) / 2 : c * d);
  for (auto& v : layer->weight) v = static_cast<std::uint8_t>(random.integer(0, 255));
  for (std::size_t i = 0; i < d; ++i) {
    layer->w_scale.push_back(random.uniform(0.01f, 0.02f));
    layer->bias.push_back(random.uniform(-1.0f, 1.0f));
  }
  for (std::size_t i = 0; i < c; ++i) {
    layer->gamma.push_back(random.uniform(0.5f, 1.5f));
    layer->beta.push_back(random.uniform(-0.5f, 0.5f));
  }
  fill_groups(grouping, 6, bits, &random, &layer->groups);
  LinearSpec& spec = layer->spec;
  spec.channels = shape.channels;
  spec.outputs = shape.outputs;
  spec.weight = layer->weight.data();
  spec.weight_type = int4 ? WeightType::kInt4 : WeightType::kInt8;
  spec.w_scale = layer->w_scale.data();
  spec.bias = layer->bias.data();
  spec.groups = {layer->groups.data(), 6};
  spec.bits = bits;
  spec.grouping = grouping;
  spec.block = block_of(shape.channels);
  spec.clip = 0.9f;
  spec.slack = 0.25f;
  spec.gelu = gelu;
  if (norm) {
    spec.gamma = layer->gamma.data();
    spec.beta = layer->beta.data();
  }
}

// Channels of different widths, so that several groups are in use.
std::vector<float> make_input(const Shape& shape) {
  Random random(static_cast<std::uint64_t>(shape.rows * 3 + shape.channels));
  std::vector<float> x(static_cast<std::size_t>(shape.batch * shape.rows * shape.channels));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % static_cast<std::size_t>(shape.channels);
    const std::size_t n = i / static_cast<std::size_t>(shape.channels);
    x[i] = random.normal() * (0.2f + 0.15f * static_cast<float>(c % 7) + 0.1f * static_cast<float>(n % 5));
  }
  // The first row of the first instance is zero.
  std::fill(x.begin(), x.begin() + shape.channels, 0.0f);
  return x;
}

// What the path itself makes of LayerNormalization and row norm: what stands behind them is then compared bit for bit.
struct Prepared {
  std::vector<float> x, norm;
};

Prepared prepare(const LinearSpec& spec, const Shape& shape, const std::vector<float>& x) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  Prepared out = {x, std::vector<float>(static_cast<std::size_t>(shape.batch * shape.rows), 1.0f)};
  const int cols = shape.channels;
  const std::size_t padded = static_cast<std::size_t>((cols + 15) / 16 * 16);
  std::vector<float> gamma(padded), beta(padded), row(padded);
  if (spec.gamma != nullptr) std::copy(spec.gamma, spec.gamma + cols, gamma.begin());
  if (spec.gamma != nullptr) std::copy(spec.beta, spec.beta + cols, beta.begin());
  for (std::size_t n = 0; n < out.norm.size(); ++n) {
    const float* from = &x[n * static_cast<std::size_t>(cols)];
    float* to = &out.x[n * static_cast<std::size_t>(cols)];
    if (is_reference(path)) {
      if (spec.gamma != nullptr) reference::layer_norm(from, cols, spec.gamma, spec.beta, spec.epsilon, to);
      if (spec.normalize) out.norm[n] = reference::row_norm(to, cols);
      continue;
    }
    std::copy(from, from + cols, row.begin());
    if (spec.gamma != nullptr) {
      float mean, rstd;
      path.stages->row_stats(from, cols, 1, cols, spec.epsilon, &mean, &rstd);
      path.stages->normalize(from, cols, 1, cols, &mean, &rstd, gamma.data(), beta.data(), row.data(), 0);
    }
    if (spec.normalize) path.stages->row_norm(row.data(), 0, 1, cols, &out.norm[n], row.data(), 0);
    std::copy(row.begin(), row.begin() + cols, to);
  }
  return out;
}

void run(const Linear* linear, const LinearCall& call, int thread_count) {
  const Aligned scratch(linear_scratch_bytes(linear, call.batch, call.rows, thread_count));
  const Status status = linear_run(linear, call, scratch.get(), threads(thread_count));
  CHECK(status == nullptr, "%s", status == nullptr ? "" : status);
}

void check_layer(const char* name, const Shape& shape, Grouping grouping, int bits, bool int4, Gelu gelu, bool norm,
                 bool row_norm, bool residual, bool w_blocks) {
  Layer layer;
  make_layer(shape, grouping, bits, int4, gelu, norm, &layer);
  Random bytes(11);
  if (w_blocks) make_weight_blocks(&bytes, &layer);
  layer.spec.normalize = row_norm;
  const std::vector<float> x = make_input(shape);
  const std::size_t size = static_cast<std::size_t>(shape.batch * shape.rows * shape.outputs);
  std::vector<float> add(size), want(size), y(size, -1.0f);
  Random random(9);
  for (float& v : add) v = random.uniform(-2.0f, 2.0f);

  LinearCall call;
  call.batch = shape.batch;
  call.rows = shape.rows;
  call.residual = residual ? add.data() : nullptr;
  call.y = want.data();
  const Prepared prepared = prepare(layer.spec, shape, x);
  reference::group_linear_prepared(layer.spec, prepared.x.data(), prepared.norm.data(), call);

  Linear* linear = nullptr;
  const Status status = linear_create(layer.spec, &linear);
  CHECK(status == nullptr, "%s: %s", name, status == nullptr ? "" : status);
  if (linear == nullptr) return;
  call.x = x.data();
  call.y = y.data();
  for (const int thread_count : {1, 3}) {
    std::fill(y.begin(), y.end(), -1.0f);
    run(linear, call, thread_count);
    int wrong = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const float allowed =
          gelu == Gelu::kNone ? 0.0f : 2.5e-7f * std::max(1.0f, std::fabs(want[i]) + std::fabs(add[i]));
      wrong += std::fabs(y[i] - want[i]) <= allowed ? 0 : 1;
    }
    CHECK(wrong == 0,
          "%s: grouping %d, %d bits, int4 %d, gelu %d, norm %d, row norm %d, residual %d, w_blocks %d, [%d, %d, %d] x %d, %d "
          "threads: %d wrong",
          name, static_cast<int>(grouping), bits, int4, static_cast<int>(gelu), norm, row_norm, residual, w_blocks, shape.batch,
          shape.rows, shape.channels, shape.outputs, thread_count, wrong);
  }
  linear_destroy(linear);
}

void test_refusals(const char* name) {
  Layer layer;
  make_layer({1, 1, 8, 8}, Grouping::kChannels, 4, false, Gelu::kNone, false, &layer);
  Linear* linear = nullptr;
  LinearSpec spec = layer.spec;
  spec.groups.count = 0;
  CHECK(linear_create(spec, &linear) != nullptr && linear == nullptr, "%s: no groups", name);
  spec = layer.spec;
  spec.bits = 9;
  CHECK(linear_create(spec, &linear) != nullptr, "%s: 9 bits", name);
  layer.groups[3] = 0.5f;
  CHECK(linear_create(layer.spec, &linear) != nullptr, "%s: fractional zero point", name);
  layer.groups[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(linear_create(layer.spec, &linear) != nullptr, "%s: zero point NaN", name);
  layer.groups[3] = 8.0f;
  layer.groups[4] = 1.5f;
  CHECK(linear_create(layer.spec, &linear) != nullptr, "%s: fractional multiplier", name);
  layer.groups[4] = 1.0f;
  // 8 channels * (2^20 + 15) * 128 is 1.07e9; with 32 channels the sum could wrap.
  layer.groups[3] = -1048576.0f;
  spec = layer.spec;
  spec.grouping = Grouping::kRows;
  CHECK(linear_create(spec, &linear) == nullptr, "%s: large zero point", name);
  linear_destroy(linear);
  Layer wide;
  make_layer({1, 1, 32, 8}, Grouping::kRows, 4, false, Gelu::kNone, false, &wide);
  wide.weight[0] = 0x80;
  wide.groups[3] = -1048576.0f;
  CHECK(linear_create(wide.spec, &linear) != nullptr, "%s: accumulator overflow", name);

  // Nothing to do is not an error, and needs no memory.
  make_layer({1, 1, 8, 8}, Grouping::kRows, 4, false, Gelu::kNone, false, &wide);
  CHECK(linear_create(layer.spec = spec, &linear) == nullptr, "%s", name);
  LinearCall call;
  CHECK(linear_run(linear, call, nullptr, Parallel()) == nullptr, "%s: no rows", name);
  linear_destroy(linear);
}

// Every code and every weight at its extreme, at a depth where a saturating or wrapping sum would show.
void test_extremes(const char* name, int channels) {
  for (const int weight : {-128, 127}) {
    Layer layer;
    const Shape shape = {1, 7, channels, 17};
    make_layer(shape, Grouping::kRows, 8, false, Gelu::kNone, false, &layer);
    std::fill(layer.weight.begin(), layer.weight.end(), static_cast<std::uint8_t>(weight));
    layer.groups = {0, 255, 1, 0, 1, 1};
    layer.spec.groups = {layer.groups.data(), 1};
    const std::vector<float> x(static_cast<std::size_t>(7 * channels), 1e9f);
    std::vector<float> y(7 * 17);
    Linear* linear = nullptr;
    CHECK(linear_create(layer.spec, &linear) == nullptr, "%s", name);
    LinearCall call;
    call.x = x.data();
    call.y = y.data();
    call.rows = 7;
    run(linear, call, 1);
    bool right = true;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float exact = static_cast<float>(255 * weight * channels) * 1.0f;
      const float weighted = exact * layer.w_scale[i % 17];
      right = right && y[i] == weighted + layer.bias[i % 17];
    }
    CHECK(right, "%s: 255 * %d * %d", name, weight, channels);
    linear_destroy(linear);
  }
}

}  // namespace

void test_windows(const char* name, bool quick);  // test_windows.cc

void test_linear(const char* name, bool quick) {
  if (std::strcmp(name, "reference") != 0) test_windows(name, quick);
  const bool slow = std::strcmp(name, "reference") == 0;
  const std::vector<Shape> shapes = quick ? std::vector<Shape>{{2, 7, 37, 19}, {1, 20, 64, 80}}
                                          : std::vector<Shape>{{1, 1, 1, 1},    {1, 1, 5, 3},      {2, 7, 37, 19},
                                                               {3, 49, 64, 80}, {1, 197, 192, 48}, {2, 70, 130, 33}};
  for (const Shape& shape : shapes) {
    for (const Grouping grouping : {Grouping::kRows, Grouping::kChannels, Grouping::kSegments, Grouping::kBlocks}) {
      for (const int bits : {4, grouping == Grouping::kBlocks ? 7 : 8}) {
        for (const bool int4 : {true, false}) {
          for (const Gelu gelu : {Gelu::kNone, Gelu::kErf, Gelu::kTanh}) {
            if (slow && gelu != Gelu::kNone) continue;
            check_layer(name, shape, grouping, bits, int4, gelu, false, gelu == Gelu::kTanh, false, false);
            check_layer(name, shape, grouping, bits, int4, gelu, true, gelu == Gelu::kNone, gelu == Gelu::kErf, true);
            if (gelu != Gelu::kNone) continue;
            check_layer(name, shape, grouping, bits, int4, gelu, false, false, true, true);
            check_layer(name, shape, grouping, bits, int4, gelu, true, false, false, false);
            check_layer(name, shape, grouping, bits, int4, gelu, false, true, true, false);
          }
        }
      }
    }
  }
  // More rows than one pass over the weights takes.
  if (!quick && !slow) {
    check_layer(name, {1, 500, 1100, 20}, Grouping::kChannels, 4, true, Gelu::kNone, true, true, false, false);
    check_layer(name, {2, 250, 1100, 20}, Grouping::kBlocks, 4, true, Gelu::kNone, true, false, false, true);
  }
  test_refusals(name);
  test_extremes(name, quick ? 260 : 4096);
}
