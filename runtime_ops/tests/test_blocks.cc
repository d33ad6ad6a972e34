// Blocks of channels: the definition on values listed by hand, the stage against the definition, extremes, refusals.
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

LinearSpec spec_of(int channels, int block, int bits, float clip, float slack) {
  LinearSpec spec;
  spec.grouping = Grouping::kBlocks;
  spec.channels = channels;
  spec.block = block;
  spec.bits = bits;
  spec.clip = clip;
  spec.slack = slack;
  return spec;
}

// Operands of one row, from the path's own stage or from the definition; returns the outer scale.
float quantize(const LinearSpec& spec, const float* x, std::vector<std::int32_t>* operand) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  const int cols = static_cast<int>(spec.channels);
  operand->assign(static_cast<std::size_t>(cols), 999);
  float scale = reference::block_scale(spec.blocks(), x, 0, 1, cols);
  if (is_reference(path)) {
    reference::quantize_blocks(spec.blocks(), x, cols, scale, operand->data());
    return scale;
  }
  BlockQuantizer quantizer;
  CHECK(prepare_blocks(spec.blocks(), Operand::kUnsigned, "test", &quantizer) == nullptr, "quantizer");
  const int count = cols / quantizer.block;
  // Exactly the memory that the stage may touch.
  std::vector<float> work(static_cast<std::size_t>(block_work(count)));
  std::vector<std::uint8_t> out(static_cast<std::size_t>(cols));
  scale = -1.0f;
  path.stages->quantize_blocks(x, 0, 1, cols, quantizer, false, work.data(), &scale, out.data(), 0);
  for (std::size_t c = 0; c < out.size(); ++c) (*operand)[c] = out[c] - kBlockOffset;
  return scale;
}

struct Listed {
  const char* what;
  float x[4];
  std::int32_t operand[4];
};

// `cases` side by side in one row whose largest magnitude makes the scale 1.
void check_listed(const char* name, LinearSpec spec, const std::vector<Listed>& cases) {
  std::vector<float> x;
  for (const Listed& c : cases) x.insert(x.end(), c.x, c.x + 4);
  spec.channels = static_cast<std::int64_t>(x.size());
  std::vector<std::int32_t> operand;
  CHECK(quantize(spec, x.data(), &operand) == 1.0f, "%s: scale", name);
  std::size_t at = 0;
  for (const Listed& c : cases) {
    for (const std::int32_t want : c.operand) {
      CHECK(operand[at] == want, "%s: %s: %g is %d, not %d", name, c.what, static_cast<double>(x[at]), operand[at],
            want);
      ++at;
    }
  }
  // A power of two passes through to the scale.
  for (float& v : x) v *= 0.015625f;
  std::vector<std::int32_t> again;
  CHECK(quantize(spec, x.data(), &again) == 0.015625f && again == operand, "%s: scaled row", name);
}

void test_listed(const char* name) {
  // Four bits: codes 0 .. 15, multipliers 1 .. 15, magnitudes up to 15 * 8 = 120.
  check_listed(name, spec_of(0, 4, 4, 1.0f, 0.25f),
               {
                   // width 240 is 16 steps, 15 is the most; zero point 8; 120 would be code 16
                   {"largest multiplier, clipped code", {120, -120, 0, 8}, {105, -120, 0, 15}},
                   // multiplier 1, zero point 0: nothing below
                   {"smallest multiplier", {0.4f, 0, -0.4f, 0.6f}, {0, 0, 0, 1}},
                   // multiplier 7, zero point 0: zero belongs to the range
                   {"one sign", {100, 60, 100, 60}, {98, 63, 98, 63}},
                   {"the other sign", {-100, -60, -100, -60}, {-98, -63, -98, -63}},
                   // multiplier 8: 0.5, 1.5, 2.5 steps to even
                   {"ties", {120, 4, 12, 20}, {120, 0, 16, 16}},
                   // 2.25 steps are 2 and the slack; a little more takes multiplier 3
                   {"slack used up", {33.75f, 0, 0, 3}, {30, 0, 0, 4}},
                   {"beyond the slack", {33.8f, 0, 0, 3}, {33, 0, 0, 3}},
                   // times the rounded inverse of 15 it is just above 1.25 steps; divided by 15 it would be 1.25
                   {"width times inverse", {18.75f, 0, 0, 3}, {18, 0, 0, 4}},
                   {"zeros", {0, -0.0f, 0, 0}, {0, 0, 0, 0}},
               });
  check_listed(name, spec_of(0, 4, 4, 1.0f, 0.0f),
               {
                   {"scale", {120, 0, 0, 0}, {120, 0, 0, 0}},
                   {"no slack", {30.5f, 0, 0, 4}, {30, 0, 0, 3}},  // multiplier 3
               });
  check_listed(name, spec_of(0, 4, 4, 0.5f, 0.25f),
               {
                   // half of the range: multiplier 5, zero point 3, operands -15 .. 60
                   {"clip", {120, 60, 58, -30}, {60, 60, 60, -15}},
               });
  check_listed(name, spec_of(0, 4, 2, 1.0f, 0.25f),
               {
                   // multiplier 50, zero point 0: code 3 is 150
                   {"operand saturates", {126, -24, 0, 30}, {127, 0, 0, 50}},
                   {"operand saturates below", {-126, 24, 0, -30}, {-127, 0, 0, -50}},
               });
}

void test_scales(const char* name) {
  struct Case {
    float largest, scale;
  };
  const Case cases[] = {{0.0f, 1.0f},          {1e-38f, 1.0f},        {1e-30f, 1.0f}, {240.0f, 2.0f},
                        {3e38f, 3e38f / 120.0f}, {1e-29f, 1e-29f / 120.0f}};
  for (const Case& c : cases) {
    const float x[8] = {0, 0, 0.5f * c.largest, 0, 0, 0, -c.largest, 0};
    std::vector<std::int32_t> operand;
    const float scale = quantize(spec_of(8, 4, 4, 1.0f, 0.25f), x, &operand);
    CHECK(scale == c.scale, "%s: scale of %g: %g", name, static_cast<double>(c.largest), static_cast<double>(scale));
    const bool zero = c.scale == 1.0f;
    CHECK(operand[6] == (zero ? 0 : -120) && operand[2] == (zero ? 0 : 60), "%s: operands %d, %d", name, operand[6],
          operand[2]);
  }
  // Whatever comes out of NaN and infinity, it is an operand.
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const float x[8] = {1, bad, -2, 3, bad, bad, -bad, bad};
    std::vector<std::int32_t> operand;
    quantize(spec_of(8, 4, 4, 1.0f, 0.25f), x, &operand);
    for (const std::int32_t a : operand) CHECK(a >= -127 && a <= 127, "%s: operand %d", name, a);
  }
}

// Rows whose blocks differ in size, in sign and in offset.
std::vector<float> random_rows(int rows, int ld, int block) {
  Random random(static_cast<std::uint64_t>(ld * 7 + block));
  std::vector<float> x(static_cast<std::size_t>(rows * ld));
  float size = 1.0f, shift = 0.0f;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % static_cast<std::size_t>(block) == 0) {
      size = std::exp2(static_cast<float>(random.integer(-6, 3)));
      shift = random.integer(0, 2) == 0 ? size * random.uniform(-4, 4) : 0.0f;
    }
    x[i] = size * random.normal() + shift;
  }
  return x;
}

// Bit for bit, for every way to cut the channels.
void test_stage(const char* name, const Stages& stages, bool quick) {
  constexpr int kRows = 19;  // more than one vector of parameters, the last one not full
  for (const int cols : quick ? std::vector<int>{48, 35} : std::vector<int>{1, 2, 15, 16, 24, 35, 48, 64, 96, 200, 768}) {
    for (int block = 1; block <= cols; ++block) {
      if (cols % block != 0) continue;
      for (int bits = 2; bits <= 7; ++bits) {
        const LinearSpec spec = spec_of(cols, block, bits, bits % 2 == 0 ? 1.0f : 0.83f, bits % 3 == 0 ? 0.0f : 0.25f);
        const int ld = cols + 3, ld_out = cols + 5;
        const std::vector<float> x = random_rows(kRows, ld, block);
        BlockQuantizer quantizer;
        // As a right operand, v of attention, the rows share one scale.
        for (const bool shared : {false, true}) {
          const Operand side = shared ? Operand::kSigned : Operand::kUnsigned;
          CHECK(prepare_blocks(spec.blocks(), side, "test", &quantizer) == nullptr, "quantizer");
          std::vector<float> work(static_cast<std::size_t>(block_work(cols / block)));
          std::vector<std::uint8_t> out(static_cast<std::size_t>((kRows - 1) * ld_out + cols), 128);
          float scale[kRows];
          stages.quantize_blocks(x.data(), ld, kRows, cols, quantizer, shared, work.data(), scale, out.data(), ld_out);
          int wrong = 0;
          std::vector<std::int32_t> want(static_cast<std::size_t>(cols));
          for (int m = 0; m < kRows; ++m) {
            const float* const row = &x[static_cast<std::size_t>(m * ld)];
            const float outer = shared ? reference::block_scale(spec.blocks(), x.data(), ld, kRows, cols)
                                       : reference::block_scale(spec.blocks(), row, 0, 1, cols);
            reference::quantize_blocks(spec.blocks(), row, cols, outer, want.data());
            wrong += scale[m] != outer;
            for (int c = 0; c < ld_out && m * ld_out + c < static_cast<int>(out.size()); ++c) {
              // What lies between the rows stays as it was.
              const int operand = c < cols ? want[static_cast<std::size_t>(c)] : 128;
              const int byte = c < cols && !shared ? operand + kBlockOffset : operand & 255;
              wrong += out[static_cast<std::size_t>(m * ld_out + c)] != byte;
            }
          }
          CHECK(wrong == 0, "%s: %d channels in blocks of %d, %d bits, shared %d: %d wrong", name, cols, block, bits,
                shared, wrong);
        }
      }
    }
  }
}

// Every operand and every weight at its extreme, at a depth where a saturating or wrapping sum would show.
void test_extremes(const char* name, int channels) {
  const int outputs = 17;
  const std::vector<float> w_scale(static_cast<std::size_t>(outputs), 1.0f);
  for (const int sign : {1, -1}) {
    // 15 * (7 + 8) and 15 * (-8 - 7) saturate at 127 and -127.
    const std::vector<std::uint8_t> weight(static_cast<std::size_t>(channels * outputs / 2 + 1), sign > 0 ? 0x77 : 0x88);
    const std::vector<std::uint8_t> w_blocks(static_cast<std::size_t>(outputs), sign > 0 ? 0xf0 : 0xff);
    LinearSpec spec = spec_of(channels, channels, 2, 1.0f, 0.25f);
    spec.outputs = outputs;
    spec.weight = weight.data();
    spec.weight_type = WeightType::kInt4;
    spec.w_blocks = w_blocks.data();
    spec.weight_blocks = 1;
    spec.w_scale = w_scale.data();
    Linear* linear = nullptr;
    const Status status = linear_create(spec, &linear);
    CHECK(status == nullptr, "%s: %s", name, status == nullptr ? "" : status);
    if (linear == nullptr) continue;
    // Multiplier 50: -24 is 0 steps, 126 is 3, which saturates.
    for (const float value : {126.0f, -126.0f}) {
      std::vector<float> x(static_cast<std::size_t>(7 * channels), value);
      for (int m = 0; m < 7; ++m) x[static_cast<std::size_t>(m * channels)] = value > 0 ? -24.0f : 24.0f;
      std::vector<float> y(static_cast<std::size_t>(7 * outputs));
      LinearCall call;
      call.x = x.data();
      call.y = y.data();
      call.rows = 7;
      const Aligned scratch(linear_scratch_bytes(linear, 1, 7, 1));
      CHECK(linear_run(linear, call, scratch.get(), threads(1)) == nullptr, "%s", name);
      const float want = static_cast<float>((channels - 1) * 127 * 127 * sign) * (value < 0 ? -1.0f : 1.0f);
      bool right = true;
      for (const float v : y) right = right && v == want;
      CHECK(right, "%s: %g * %d * 127: %g", name, static_cast<double>(value), channels, static_cast<double>(y[0]));
    }
    linear_destroy(linear);
  }
}

void test_refusals(const char* name) {
  const std::vector<std::uint8_t> weight(64, 1);
  const std::vector<float> w_scale(8, 1.0f);
  std::vector<std::uint8_t> w_blocks(16, 0x18);
  LinearSpec good = spec_of(8, 4, 4, 1.0f, 0.25f);
  good.outputs = 8;
  good.weight = weight.data();
  good.w_scale = w_scale.data();
  good.w_blocks = w_blocks.data();
  good.weight_blocks = 2;
  const auto accepts = [](const LinearSpec& spec) {
    Linear* linear = nullptr;
    const Status status = linear_create(spec, &linear);
    linear_destroy(linear);
    return status == nullptr;
  };
  CHECK(accepts(good), "%s", name);
  for (const int bits : {0, 1, 8}) {
    LinearSpec spec = good;
    spec.bits = bits;
    CHECK(!accepts(spec), "%s: %d bits", name, bits);
  }
  for (const int block : {-4, 0, 3, 16}) {
    LinearSpec spec = good;
    spec.block = block;
    CHECK(!accepts(spec), "%s: blocks of %d", name, block);
  }
  for (const float clip : {0.0f, -1.0f, 1.001f, std::numeric_limits<float>::quiet_NaN()}) {
    LinearSpec spec = good;
    spec.clip = clip;
    CHECK(!accepts(spec), "%s: clip %g", name, static_cast<double>(clip));
  }
  for (const float slack : {-0.01f, 0.51f, std::numeric_limits<float>::quiet_NaN()}) {
    LinearSpec spec = good;
    spec.slack = slack;
    CHECK(!accepts(spec), "%s: slack %g", name, static_cast<double>(slack));
  }
  for (const int count : {0, -1, 3, 16}) {
    LinearSpec spec = good;
    spec.weight_blocks = count;
    CHECK(!accepts(spec), "%s: %d blocks of weights", name, count);
  }
  w_blocks[9] = 0x0f;
  CHECK(!accepts(good), "%s: multiplier 0", name);
}

}  // namespace

void test_blocks(const char* name, bool quick) {
  Status status = nullptr;
  const Path& path = *active_path(&status);
  test_listed(name);
  test_scales(name);
  if (!is_reference(path)) test_stage(name, *path.stages, quick);
  test_extremes(name, quick ? 260 : 1040);
  test_refusals(name);
}
