// Rows divided by their root mean square: the stage alone, and whole layers bit for bit.
//
// Sums of squares may be added in any order, so norms differ in the last bit between paths. Layers are therefore
// compared in two ways: on any rows, with the norms that the path itself finds, and on rows whose norm is exact.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../cpu/path.h"
#include "../reference/reference.h"
#include "check.h"

using namespace qcompiler::cpu;
namespace reference = qcompiler::reference;

namespace {

const int kLengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 197};

int padded(int cols) { return (cols + 15) / 16 * 16; }

// A row of integers with the root mean square 2 * factor: one value in 16 is 7 times another, the rest of a row that
// is not a multiple of 16 long is twice as large.
void fill_exact(float* row, int cols, float factor, Random* random) {
  for (int c = 0; c < cols; ++c) {
    const bool tail = c >= cols / 16 * 16;
    const float size = tail ? 2.0f : (c % 16 == 5 ? 7.0f : 1.0f);
    row[c] = (random->integer(0, 1) == 0 ? -size : size) * factor;
  }
}

void test_stage(const char* name, const Stages& stages) {
  constexpr int kRows = 4;
  for (const int cols : kLengths) {
    for (const float size : {1.0f, 1e-12f, 1e12f}) {
      Random random(static_cast<std::uint64_t>(cols));
      const int ld = cols + 3, ld_out = padded(cols) + 16;
      // Between the rows lies what must not count; behind the last one lies nothing.
      std::vector<float> x(static_cast<std::size_t>((kRows - 1) * ld + cols), std::numeric_limits<float>::quiet_NaN());
      for (int m = 0; m < kRows; ++m) {
        for (int c = 0; c < cols; ++c) x[static_cast<std::size_t>(m * ld + c)] = size * random.normal();
      }
      std::fill_n(x.begin() + ld, cols, 0.0f);
      fill_exact(&x[static_cast<std::size_t>(2 * ld)], cols, 3.0f, &random);
      std::vector<float> out(static_cast<std::size_t>(kRows * ld_out), -99.0f);
      float norm[kRows];
      stages.row_norm(x.data(), ld, kRows, cols, norm, out.data(), ld_out);
      for (int m = 0; m < kRows; ++m) {
        const float* const row = &x[static_cast<std::size_t>(m * ld)];
        std::vector<float> copy(row, row + cols);
        const float want = reference::row_norm(copy.data(), cols);
        CHECK(std::fabs(norm[m] - want) <= 1e-6f * want, "%s: norm of %d: %g, not %g", name, cols,
              static_cast<double>(norm[m]), static_cast<double>(want));
        // Multiplied by the rounded inverse, not divided.
        const float inverse = 1.0f / norm[m];
        bool right = true, kept = true;
        for (int c = 0; c < ld_out; ++c) {
          const float got = out[static_cast<std::size_t>(m * ld_out + c)];
          if (c < cols) right = right && got == row[c] * inverse;
          if (c >= padded(cols)) kept = kept && got == -99.0f;
        }
        CHECK(right, "%s: row of %d", name, cols);
        CHECK(kept, "%s: row of %d: written too far", name, cols);
      }
      CHECK(norm[1] == 1.0f, "%s: a row of zeros is divided by %g", name, static_cast<double>(norm[1]));
      CHECK(norm[2] == 6.0f, "%s: exact norm of %d: %.9g", name, cols, static_cast<double>(norm[2]));

      std::vector<float> inside(static_cast<std::size_t>(kRows * ld_out), 0.0f);
      for (int m = 0; m < kRows; ++m) {
        std::copy_n(&x[static_cast<std::size_t>(m * ld)], cols, &inside[static_cast<std::size_t>(m * ld_out)]);
      }
      float again[kRows];
      stages.row_norm(inside.data(), ld_out, kRows, cols, again, inside.data(), ld_out);
      bool same = std::memcmp(norm, again, sizeof norm) == 0;
      for (int m = 0; m < kRows; ++m) {
        const std::size_t at = static_cast<std::size_t>(m * ld_out);
        same = same && std::memcmp(&inside[at], &out[at], sizeof(float) * static_cast<std::size_t>(cols)) == 0;
      }
      CHECK(same, "%s: row of %d in place", name, cols);
    }
  }
}

void test_reference() {
  float row[] = {3.0f, -4.0f, 0.0f, 0.0f, 0.0f};  // 25 / 5
  CHECK(reference::row_norm(row, 5) == std::sqrt(5.0f), "norm");
  const float inverse = 1.0f / std::sqrt(5.0f);
  CHECK(row[0] == 3.0f * inverse && row[1] == -4.0f * inverse && row[2] == 0.0f, "row");
  float zeros[] = {0.0f, -0.0f};
  CHECK(reference::row_norm(zeros, 2) == 1.0f && zeros[0] == 0.0f && zeros[1] == 0.0f, "zeros");
}

struct Shape {
  int batch, rows, channels, outputs;
  std::size_t inputs() const { return static_cast<std::size_t>(batch * rows * channels); }
  std::size_t results() const { return static_cast<std::size_t>(batch * rows * outputs); }
};

struct Layer {
  LinearSpec spec;
  std::vector<std::uint8_t> weight;
  std::vector<float> w_scale, bias, gamma, beta, groups;
};

// With `plain` every factor behind the accumulator is 1 and the bias is 0.
void make_layer(const Shape& shape, Grouping grouping, bool int4, bool norm, bool plain, Layer* layer) {
  Random random(static_cast<std::uint64_t>(shape.channels * 31 + shape.outputs));
  const std::size_t c = static_cast<std::size_t>(shape.channels), d = static_cast<std::size_t>(shape.outputs);
  layer->weight.resize(int4 ? (c * d + 1) / 2 : c * d);
  for (auto& v : layer->weight) v = static_cast<std::uint8_t>(random.integer(0, 255));
  for (std::size_t i = 0; i < d; ++i) {
    layer->w_scale.push_back(plain ? 1.0f : random.uniform(0.01f, 0.02f));
    layer->bias.push_back(plain ? 0.0f : random.uniform(-1.0f, 1.0f));
  }
  for (std::size_t i = 0; i < c; ++i) {
    layer->gamma.push_back(random.uniform(0.5f, 1.5f));
    layer->beta.push_back(random.uniform(-0.5f, 0.5f));
  }
  constexpr int kGroups = 5;
  for (int g = 0; g < kGroups; ++g) {
    const float width = 1.0f + static_cast<float>(g);
    const float lower = -width * random.uniform(0.3f, 0.7f), upper = lower + width;
    const float multiplier = static_cast<float>(g + 1);
    const float scale = grouping == Grouping::kChannels ? 0.07f * multiplier : width / 15.0f;
    const float zero = std::rint(-lower / scale);
    const float outer = grouping == Grouping::kChannels ? 0.07f : scale;
    if (grouping == Grouping::kRows) {
      layer->groups.insert(layer->groups.end(), {lower, upper, scale, zero, 1.0f, plain ? 1.0f : outer});
    } else if (grouping == Grouping::kChannels) {
      layer->groups.insert(layer->groups.end(), {lower, upper, scale, zero, multiplier, plain ? 1.0f : outer});
    } else {
      layer->groups.insert(layer->groups.end(), {lower, upper, scale, zero, scale, 1.0f});
    }
  }
  LinearSpec& spec = layer->spec;
  spec.channels = shape.channels;
  spec.outputs = shape.outputs;
  spec.weight = layer->weight.data();
  spec.weight_type = int4 ? WeightType::kInt4 : WeightType::kInt8;
  spec.w_scale = layer->w_scale.data();
  spec.bias = layer->bias.data();
  spec.groups = {layer->groups.data(), kGroups};
  spec.bits = 4;
  spec.grouping = grouping;
  spec.normalize = true;
  if (norm) {
    spec.gamma = layer->gamma.data();
    spec.beta = layer->beta.data();
  }
}

std::vector<float> random_rows(const Shape& shape) {
  Random random(static_cast<std::uint64_t>(shape.rows * 3 + shape.channels));
  std::vector<float> x(shape.inputs());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % static_cast<std::size_t>(shape.channels);
    const std::size_t n = i / static_cast<std::size_t>(shape.channels);
    // Rows of very different sizes, channels of different widths.
    x[i] = random.normal() * (0.2f + 0.3f * static_cast<float>(c % 7)) * std::exp2(static_cast<float>(n % 9) - 4.0f);
  }
  std::fill_n(x.begin(), shape.channels, 0.0f);
  return x;
}

std::vector<float> exact_rows(const Shape& shape) {
  Random random(static_cast<std::uint64_t>(shape.rows * 5 + shape.channels));
  std::vector<float> x(shape.inputs());
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(shape.channels)) {
    fill_exact(&x[at], shape.channels, static_cast<float>(random.integer(1, 12)), &random);
  }
  std::fill_n(x.begin(), shape.channels, 0.0f);
  return x;
}

// What the path itself makes of LayerNormalization and row norm, row by row; returns the norms.
std::vector<float> prepare(const LinearSpec& spec, std::vector<float>* x) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  const int cols = static_cast<int>(spec.channels);
  const std::size_t wide = static_cast<std::size_t>(padded(cols));
  std::vector<float> gamma(wide), beta(wide), row(wide), norms;
  if (spec.gamma != nullptr) {
    std::copy_n(spec.gamma, cols, gamma.begin());
    std::copy_n(spec.beta, cols, beta.begin());
  }
  for (std::size_t at = 0; at < x->size(); at += static_cast<std::size_t>(cols)) {
    float* const to = x->data() + at;
    std::copy_n(to, cols, row.begin());
    float mean, rstd, norm;
    if (is_reference(path)) {
      if (spec.gamma != nullptr) reference::layer_norm(to, cols, spec.gamma, spec.beta, spec.epsilon, row.data());
      norm = reference::row_norm(row.data(), cols);
    } else {
      if (spec.gamma != nullptr) {
        path.stages->row_stats(to, cols, 1, cols, spec.epsilon, &mean, &rstd);
        path.stages->normalize(to, cols, 1, cols, &mean, &rstd, gamma.data(), beta.data(), row.data(), 0);
      }
      path.stages->row_norm(row.data(), 0, 1, cols, &norm, row.data(), 0);
    }
    std::copy_n(row.begin(), cols, to);
    norms.push_back(norm);
  }
  return norms;
}

void compare(const char* name, const char* what, const Shape& shape, const Layer& layer, const std::vector<float>& x,
             const float* residual, const std::vector<float>& want, float tolerance) {
  Linear* linear = nullptr;
  const Status status = linear_create(layer.spec, &linear);
  CHECK(status == nullptr, "%s: %s", name, status == nullptr ? "" : status);
  if (linear == nullptr) return;
  for (const int thread_count : {1, 3}) {
    std::vector<float> y(want.size(), -1.0f);
    LinearCall call;
    call.x = x.data();
    call.y = y.data();
    call.residual = residual;
    call.batch = shape.batch;
    call.rows = shape.rows;
    const Aligned scratch(linear_scratch_bytes(linear, call.batch, call.rows, thread_count));
    CHECK(linear_run(linear, call, scratch.get(), threads(thread_count)) == nullptr, "%s", name);
    int wrong = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      wrong += std::fabs(y[i] - want[i]) <= tolerance * std::max(1.0f, std::fabs(want[i])) ? 0 : 1;
    }
    CHECK(wrong == 0, "%s: %s, grouping %d, int8 %d, LayerNorm %d, gelu %d, [%d, %d, %d] x %d, %d threads: %d wrong",
          name, what, static_cast<int>(layer.spec.grouping), layer.spec.weight_type == WeightType::kInt8,
          layer.spec.gamma != nullptr, static_cast<int>(layer.spec.gelu), shape.batch, shape.rows, shape.channels,
          shape.outputs, thread_count, wrong);
  }
  linear_destroy(linear);
}

// Any rows: the accumulators of the prepared rows, times the norms.
void test_any_rows(const char* name, const Shape& shape, Grouping grouping, bool int4, bool norm) {
  Layer layer;
  make_layer(shape, grouping, int4, norm, true, &layer);
  const std::vector<float> x = random_rows(shape);
  std::vector<float> input = x, want(shape.results());
  const std::vector<float> norms = prepare(layer.spec, &input);
  LinearSpec plain = layer.spec;
  plain.gamma = plain.beta = nullptr;
  plain.normalize = false;
  LinearCall call;
  call.x = input.data();
  call.y = want.data();
  call.batch = shape.batch;
  call.rows = shape.rows;
  reference::group_linear(plain, call);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] *= norms[i / static_cast<std::size_t>(shape.outputs)];
  compare(name, "any rows", shape, layer, x, nullptr, want, 0.0f);
}

// Exact norms: the definition with all its factors, in their order, and with what follows.
void test_exact_rows(const char* name, const Shape& shape, Grouping grouping, bool int4, Gelu gelu, bool residual) {
  Layer layer;
  make_layer(shape, grouping, int4, false, false, &layer);
  layer.spec.gelu = gelu;
  const std::vector<float> x = exact_rows(shape);
  std::vector<float> add(shape.results()), want(shape.results());
  Random random(9);
  for (float& v : add) v = random.uniform(-2.0f, 2.0f);
  LinearCall call;
  call.x = x.data();
  call.y = want.data();
  call.residual = residual ? add.data() : nullptr;
  call.batch = shape.batch;
  call.rows = shape.rows;
  reference::group_linear(layer.spec, call);
  // The definition's GELU is double inside; the paths evaluate it in float.
  compare(name, "exact rows", shape, layer, x, call.residual, want, gelu == Gelu::kNone ? 0.0f : 5e-7f);
}

}  // namespace

void test_row_norm(const char* name, bool quick) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  if (is_reference(path)) {
    test_reference();
  } else {
    test_stage(name, *path.stages);
  }
  const std::vector<Shape> shapes =
      quick ? std::vector<Shape>{{2, 7, 37, 19}, {1, 20, 64, 80}}
            : std::vector<Shape>{{1, 1, 1, 1}, {1, 3, 5, 3}, {8, 9, 37, 19}, {3, 49, 64, 80}, {1, 197, 192, 48}};
  for (const Shape& shape : shapes) {
    for (const Grouping grouping : {Grouping::kRows, Grouping::kChannels, Grouping::kSegments}) {
      for (const bool int4 : {true, false}) {
        for (const bool norm : {true, false}) test_any_rows(name, shape, grouping, int4, norm);
        for (const bool residual : {true, false}) {
          test_exact_rows(name, shape, grouping, int4, Gelu::kNone, residual);
        }
      }
      test_exact_rows(name, shape, grouping, true, Gelu::kErf, false);
      test_exact_rows(name, shape, grouping, true, Gelu::kTanh, false);
    }
  }
}
