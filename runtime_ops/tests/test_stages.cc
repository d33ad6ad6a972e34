// The float stages of a path, one by one, given the same float input as the definition.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../cpu/path.h"
#include "../cpu/quantizer.h"
#include "../reference/reference.h"
#include "check.h"

using namespace qcompiler::cpu;
namespace reference = qcompiler::reference;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const int kLengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 197};

void test_layer_norm(const char* name, const Stages& stages) {
  for (const int cols : kLengths) {
    // A mean far from zero: E[x^2] - mean^2 would lose every digit.
    for (const float shift : {0.0f, 1000.0f}) {
      Random random(static_cast<std::uint64_t>(cols));
      const int rows = 3;
      const std::size_t padded = static_cast<std::size_t>((cols + 15) / 16 * 16);
      std::vector<float> x(static_cast<std::size_t>(rows * cols)), out(rows * padded),
          want(static_cast<std::size_t>(cols));
      std::vector<float> gamma(padded, 0.0f), beta(padded, 0.0f);
      for (float& v : x) v = shift + random.normal();
      for (int c = 0; c < cols; ++c) {
        gamma[static_cast<std::size_t>(c)] = random.uniform(0.5f, 2.0f);
        beta[static_cast<std::size_t>(c)] = random.uniform(-1.0f, 1.0f);
      }
      float mean[3], rstd[3];
      stages.row_stats(x.data(), cols, rows, cols, 1e-5f, mean, rstd);
      stages.normalize(x.data(), cols, rows, cols, mean, rstd, gamma.data(), beta.data(), out.data(),
                       static_cast<std::ptrdiff_t>(padded));
      float worst = 0.0f;
      for (int m = 0; m < rows; ++m) {
        reference::layer_norm(x.data() + m * cols, cols, gamma.data(), beta.data(), 1e-5f, want.data());
        for (std::size_t c = 0; c < want.size(); ++c) {
          worst = std::max(
              worst, std::fabs(out[static_cast<std::size_t>(m) * padded + c] - want[c]) / (1.0f + std::fabs(want[c])));
        }
      }
      // A float32 mean near 1000 is itself off by up to 3e-5.
      CHECK(worst < (shift == 0.0f ? 1e-6f : 2e-4f), "%s: LayerNorm of %d at %g: %g", name, cols,
            static_cast<double>(shift), static_cast<double>(worst));
    }
  }
}

void test_row_norm(const char* name, const Stages& stages) {
  for (const int cols : kLengths) {
    // Far below and above 1: squares stay in range for any activation, and zeros are divided by 1.
    for (const float size : {0.0f, 1e-6f, 1.0f, 1e6f}) {
      Random random(static_cast<std::uint64_t>(cols));
      std::vector<float> x(static_cast<std::size_t>((cols + 15) / 16 * 16)), want(x.size());
      for (int c = 0; c < cols; ++c)
        x[static_cast<std::size_t>(c)] = want[static_cast<std::size_t>(c)] = size * random.normal();
      float norm = -1.0f;
      stages.row_norm(x.data(), 0, 1, cols, &norm, x.data(), 0);
      const float exact = reference::row_norm(want.data(), cols);
      bool close = std::fabs(norm - exact) <= 1e-6f * exact;
      for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c)
        close = close && std::fabs(x[c] - want[c]) <= 1e-6f * std::fabs(want[c]);
      CHECK(close, "%s: row norm of %d at %g: %g, not %g", name, cols, static_cast<double>(size),
            static_cast<double>(norm), static_cast<double>(exact));
      CHECK(size != 0.0f || norm == 1.0f, "%s: a row of zeros", name);
    }
  }
}

void test_ranges(const char* name, const Stages& stages) {
  for (const int rows : {1, 2, 5}) {
    for (const int cols : kLengths) {
      Random random(static_cast<std::uint64_t>(cols * 10 + rows));
      const int ld = cols + 3;
      std::vector<float> x(static_cast<std::size_t>((rows - 1) * ld + cols));
      // All values of one sign: a range that starts from zero, or takes padding in, shows.
      const float sign = cols % 2 == 0 ? 1.0f : -1.0f;
      for (float& v : x) v = sign * random.uniform(1.0f, 9.0f);
      const std::size_t padded = static_cast<std::size_t>((std::max(rows, cols) + 15) / 16 * 16);
      std::vector<float> low(padded), high(padded), row_low(padded), row_high(padded);
      stages.channel_ranges(x.data(), ld, rows > 1 ? rows - 1 : rows, cols, low.data(), high.data(), true);
      if (rows > 1) stages.channel_ranges(x.data() + (rows - 1) * ld, ld, 1, cols, low.data(), high.data(), false);
      stages.row_ranges(x.data(), ld, rows, cols, row_low.data(), row_high.data());
      bool right = true;
      for (int c = 0; c < cols; ++c) {
        float a = kInfinity, b = -kInfinity;
        for (int m = 0; m < rows; ++m) {
          a = std::min(a, x[static_cast<std::size_t>(m * ld + c)]);
          b = std::max(b, x[static_cast<std::size_t>(m * ld + c)]);
        }
        right = right && low[static_cast<std::size_t>(c)] == a && high[static_cast<std::size_t>(c)] == b;
      }
      for (int m = 0; m < rows; ++m) {
        const auto begin = x.begin() + m * ld, end = begin + cols;
        right = right && row_low[static_cast<std::size_t>(m)] == *std::min_element(begin, end) &&
                row_high[static_cast<std::size_t>(m)] == *std::max_element(begin, end);
      }
      CHECK(right, "%s: ranges of %d x %d", name, rows, cols);
    }
  }
}

void test_assign(const char* name, const Stages& stages) {
  // Groups 0 and 1 are mirror images, 2 equals 0, 3 is far.
  const float table[] = {-1, 2, 1, 0, 1, 1, -2, 1, 1, 0, 1, 1, -1, 2, 1, 0, 1, 1, -9, 9, 1, 0, 1, 1};
  const GroupTable groups{table, 4};
  GroupQuantizer quantizer;
  CHECK(quantizer.prepare(groups, 4, Operand::kCode, "test") == nullptr, "table");
  struct Case {
    float lower, upper;
    int group;
    const char* what;
  };
  const Case cases[] = {
      {-1, 2, 0, "equal groups 0 and 2: the lowest index"},
      {-2, 1, 1, "the nearest one is not the first"},
      {-1.5f, 1.5f, 0, "exact tie of 0, 1 and 2: the lowest index"},
      {-1.5000001f, 1.5f, 1, "just off the tie"},
      {-8, 8, 3, "the last one"},
      {0, 0, 0, "a row of zeros: tie of 0, 1 and 2"},
      {-kInfinity, 1, 0, "every distance is infinite: index 0"},
      {kNan, 1, 0, "every distance is NaN: index 0"},
      {-3e38f, 3e38f, 0, "every distance overflows: index 0"},
  };
  for (const Case& c : cases) {
    float lower[16] = {}, upper[16] = {};
    std::int32_t index[16];
    lower[5] = c.lower;
    upper[5] = c.upper;
    stages.assign(lower, upper, 6, quantizer.columns(), index);
    CHECK(index[5] == c.group, "%s: %s: group %d", name, c.what, index[5]);
    CHECK(reference::assign_group(c.lower, c.upper, groups) == c.group, "reference: %s", c.what);
  }
  Random random(5);
  std::vector<float> lower(208), upper(208);
  for (std::size_t i = 0; i < lower.size(); ++i) {
    lower[i] = random.uniform(-3, 0);
    upper[i] = random.uniform(0, 3);
  }
  std::vector<std::int32_t> index(208);
  stages.assign(lower.data(), upper.data(), 197, quantizer.columns(), index.data());
  bool same = true;
  for (std::size_t i = 0; i < 197; ++i) same = same && index[i] == reference::assign_group(lower[i], upper[i], groups);
  CHECK(same, "%s: random assignments", name);
  // Symmetric ranges tie between the mirror images: the same two squares in another order. A fused multiply-add rounds
  // only one of the squares, and so breaks the tie.
  for (std::size_t i = 0; i < lower.size(); ++i) lower[i] = -(upper[i] = random.uniform(1.0f, 2.0f));
  stages.assign(lower.data(), upper.data(), 197, quantizer.columns(), index.data());
  int second = 0;
  for (std::size_t i = 0; i < 197; ++i) second += index[i] == 0 ? 0 : 1;
  CHECK(second == 0, "%s: %d of 197 mirror ties broken", name, second);
}

// Values at the borders of codes, for scale 0.5 (1 / scale is exact) and scale 0.3 (it is not).
std::vector<float> border_values() {
  std::vector<float> x = {
      0.25f,  // 0.5: tie, to even 0
      0.75f,  // 1.5: tie, to even 2 (half away from zero agrees, truncation + 0.5 does not differ)
      1.25f,  // 2.5: tie, to even 2 (half up gives 3)
      -0.25f,      -0.75f,      -1.25f,                   // the same below zero: half up and half away differ here
      0.25000003f, 0.24999999f,                           // next to a tie
      -0.0f,       0.0f,                                  // signed zero
      3.75f,       3.74f,       3.76f,                    // 7.5 at the upper end of 4 bits with zero point 8
      -4.0f,       -4.25f,      -4.26f,                   // the lower end: clip before or after rounding is the same
      1e6f,        -1e6f,       1e30f,  -1e30f,           // far outside int32: the conversion must not wrap
      kInfinity,   -kInfinity,  kNan,   1e-40f, -1e-40f,  // subnormal
      0.15f,       0.45f,       -0.15f, 0.6f,  // multiply by 1/scale: division would round some of these differently
  };
  Random random(11);
  while (x.size() < 500) x.push_back(random.uniform(-6, 6));
  return x;
}

void test_quantize(const char* name, const Stages& stages) {
  const std::vector<float> x = border_values();
  const int cols = static_cast<int>(x.size());
  const std::size_t padded = static_cast<std::size_t>((cols + 15) / 16 * 16);
  // lower, upper, scale, zero_point, multiplier, outer. Saturating operands: 8 bits with zero point 128 (only code 0
  // saturates), zero point 0 (half the codes do), zero point 300 (all codes below 173 do), multiplier 20.
  const float table[] = {0, 0, 0.5f, 8, 1, 1, 0, 0, 0.3f,  7,   1, 1, 0, 0, 1e-30f, 3,   1, 1, 0, 0, 1e30f, 3, 1,  1,
                         0, 0, 0.1f, 0, 1, 1, 0, 0, 0.02f, 128, 1, 1, 0, 0, 0.05f,  300, 1, 1, 0, 0, 0.3f,  7, 20, 1};
  for (const int bits : {3, 4, 6, 8}) {
    const float top = static_cast<float>((1 << bits) - 1);
    for (const Operand operand : {Operand::kCode, Operand::kUnsigned, Operand::kSigned, Operand::kMultiple}) {
      GroupQuantizer q;
      CHECK(q.prepare({table, 8}, bits, operand, "test") == nullptr, "table");
      for (std::size_t g = 0; g < 8; ++g) {
        const reference::Group group = reference::group_at({table, 8}, static_cast<int>(g));
        std::vector<std::uint8_t> out(2 * padded, 99);
        if (operand == Operand::kMultiple) {
          const std::vector<float> inverse(padded, q.inverse[g]), low(padded, q.low[g]), high(padded, q.high[g]),
              multiplier(padded, q.multiplier[g]);
          const ChannelQuantizer channels = {inverse.data(),    low.data(), high.data(),
                                             multiplier.data(), nullptr,    q.offset[g]};
          stages.quantize_channels(x.data(), 0, 2, cols, channels, out.data(), static_cast<std::ptrdiff_t>(padded));
        } else {
          const std::int32_t index[2] = {static_cast<std::int32_t>(g), static_cast<std::int32_t>(g)};
          stages.quantize_rows(x.data(), 0, 2, cols, q.rows.data(), index, out.data(),
                               static_cast<std::ptrdiff_t>(padded));
        }
        int wrong = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const float code = reference::quantize(x[i], group, top);
          std::int32_t want = static_cast<std::int32_t>(code - group.zero_point);
          if (operand == Operand::kMultiple) want = reference::multiplied_operand(code, group);
          if (operand == Operand::kUnsigned || operand == Operand::kSigned)
            want = reference::signed_operand(code, group);
          const std::int32_t byte = out[padded + i];
          const std::int32_t got = operand == Operand::kSigned ? static_cast<std::int8_t>(byte) : byte - q.offset[g];
          if (got != want && wrong++ == 0) {
            CHECK(got == want, "%s: %d bits, group %d, operand %d, x %g: %d, not %d", name, bits, static_cast<int>(g),
                  static_cast<int>(operand), static_cast<double>(x[i]), got, want);
          }
        }
        CHECK(wrong == 0, "%s: %d bits, group %d: %d wrong", name, bits, static_cast<int>(g), wrong);
      }
    }
  }
}

void test_map_bytes(const char* name, const Stages& stages) {
  Random random(3);
  for (const int count : {1, 2, 15, 16, 17, 100, 128, 129, 256}) {
    std::uint8_t table[256] = {};
    for (int i = 0; i < count; ++i) table[i] = static_cast<std::uint8_t>(random.integer(0, 255));
    std::vector<std::uint8_t> data(2 * 256), before;
    for (std::size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<std::uint8_t>(i % static_cast<std::size_t>(count));
    before = data;
    stages.map_bytes(data.data(), 256, 2, 250, table, count);
    bool right = true;
    for (std::size_t i = 0; i < data.size(); ++i) right = right && (i % 256 >= 250 || data[i] == table[before[i]]);
    CHECK(right, "%s: table of %d", name, count);
  }
}

void test_gelu(const char* name, const Stages& stages) {
  const int cols = 4000;
  std::vector<float> x(cols), y(cols), ones(cols, 1.0f);
  for (int i = 0; i < cols; ++i) x[static_cast<std::size_t>(i)] = static_cast<float>(i - 2000) * 0.006f;
  x[0] = -100.0f, x[1] = 100.0f, x[2] = -0.0f, x[3] = 1e-30f;
  for (const Gelu gelu : {Gelu::kNone, Gelu::kErf, Gelu::kTanh}) {
    Epilogue e;
    e.sum = x.data();
    e.rows = 1;
    e.cols = cols;
    e.w_scale = ones.data();
    e.gelu = gelu;
    e.y = y.data();
    stages.epilogue(e);
    float worst = 0.0f;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float scale = std::max(1.0f, std::fabs(x[i]));
      worst = std::max(worst, std::fabs(y[i] - reference::gelu(x[i], gelu)) / scale);
    }
    CHECK(worst < 2.5e-7f, "%s: GELU %d: %g", name, static_cast<int>(gelu), static_cast<double>(worst));
    // y = x (1 + erf) / 2 at x = 2^-12: erf is linear there, so its error near zero shows as absolute, not relative.
  }
}

void test_epilogue(const char* name, const Stages& stages) {
  // Values for which a fused multiply-add, or another order of the factors, rounds differently.
  Random random(17);
  for (const int cols : kLengths) {
    const int rows = 3, ld = 208;
    std::vector<std::int32_t> acc(rows * ld), sums(ld), zero(rows);
    std::vector<float> outer(rows), scale(ld), bias(ld), residual(static_cast<std::size_t>(rows * cols)), y(residual);
    for (auto& v : acc) v = random.integer(-40000000, 40000000);
    for (auto& v : sums) v = random.integer(-100000, 100000);
    for (auto& v : zero) v = random.integer(-300, 300);
    for (auto& v : outer) v = random.uniform(1e-3f, 1e-2f);
    for (auto& v : scale) v = random.uniform(1e-3f, 1e-2f);
    for (auto& v : bias) v = random.uniform(-100.0f, 100.0f);
    for (auto& v : residual) v = random.uniform(-100.0f, 100.0f);
    for (const bool by_row : {true, false}) {
      Epilogue e;
      e.acc = acc.data();
      e.ld_acc = ld;
      e.rows = rows;
      e.cols = cols;
      e.zero = by_row ? zero.data() : nullptr;  // without them the sums count once
      e.column_sum = sums.data();
      e.outer = outer.data();
      e.w_scale = scale.data();
      e.bias = bias.data();
      e.residual = residual.data();
      e.y = y.data();
      e.ld_y = cols;
      stages.epilogue(e);
      int wrong = 0;
      for (std::size_t m = 0; m < static_cast<std::size_t>(rows); ++m) {
        for (std::size_t n = 0; n < static_cast<std::size_t>(cols); ++n) {
          const std::int32_t exact = acc[m * ld + n] - (by_row ? zero[m] : 1) * sums[n];
          const float scaled = static_cast<float>(exact) * outer[m];
          const float weighted = scaled * scale[n];
          const float biased = weighted + bias[n];
          const std::size_t at = m * static_cast<std::size_t>(cols) + n;
          wrong += y[at] != biased + residual[at] ? 1 : 0;
        }
      }
      CHECK(wrong == 0, "%s: epilogue of %d columns, zero points by row %d: %d wrong", name, cols, by_row, wrong);
    }
  }
}

void test_softmax(const char* name, const Stages& stages) {
  // Two entries, 0 and x: p = exp(x) / (1 + exp(x)) shows the relative error of exp.
  double worst = 0.0;
  for (int i = 0; i <= 3200; ++i) {
    float row[16] = {0.0f, -0.025f * static_cast<float>(i)};
    const double want = 1.0 / (1.0 + std::exp(-static_cast<double>(row[1])));
    float low, high;
    stages.softmax(row, 16, 1, 2, &low, &high);
    worst = std::max(worst, std::fabs(row[1] / want - 1.0));
    CHECK(low == row[1] && high == row[0], "%s: range of a row", name);
  }
  CHECK(worst < 1e-6, "%s: exp: %g", name, worst);
  for (const int cols : kLengths) {
    Random random(static_cast<std::uint64_t>(cols));
    const std::size_t ld = static_cast<std::size_t>((cols + 15) / 16 * 16);
    std::vector<float> x(2 * ld, kNan);  // padding must not count
    for (std::size_t m = 0; m < 2; ++m) {
      for (std::size_t n = 0; n < static_cast<std::size_t>(cols); ++n) x[m * ld + n] = 4.0f * random.normal() + 50.0f;
    }
    x[0] = cols > 1 ? -kInfinity : 0.0f;  // masked
    std::vector<float> p = x;
    float low[2], high[2];
    stages.softmax(p.data(), static_cast<std::ptrdiff_t>(ld), 2, cols, low, high);
    for (std::size_t m = 0; m < 2; ++m) {
      double sum = 0.0, peak = -1e300;
      float least = 2.0f, most = -1.0f;
      for (std::size_t n = 0; n < static_cast<std::size_t>(cols); ++n)
        peak = std::max(peak, static_cast<double>(x[m * ld + n]));
      for (std::size_t n = 0; n < static_cast<std::size_t>(cols); ++n) sum += std::exp(x[m * ld + n] - peak);
      bool close = true;
      for (std::size_t n = 0; n < static_cast<std::size_t>(cols); ++n) {
        const double want = std::exp(x[m * ld + n] - peak) / sum;
        close = close && std::fabs(p[m * ld + n] - want) <= 1e-6 * want + 1e-34;
        least = std::min(least, p[m * ld + n]);
        most = std::max(most, p[m * ld + n]);
      }
      CHECK(close, "%s: softmax of %d", name, cols);
      CHECK(low[m] == least && high[m] == most, "%s: range of softmax of %d", name, cols);
    }
  }
}

}  // namespace

void test_stages(const char* name) {
  Status status = nullptr;
  const Stages& stages = *active_path(&status)->stages;
  test_layer_norm(name, stages);
  test_row_norm(name, stages);
  test_ranges(name, stages);
  test_assign(name, stages);
  test_quantize(name, stages);
  test_map_bytes(name, stages);
  test_gelu(name, stages);
  test_epilogue(name, stages);
  test_softmax(name, stages);
}
