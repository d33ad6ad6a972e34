// Whole attention operators. Everything but exp is exact, so a naive attention around the path's own softmax must give
// the same bits; against the definition in reference/ few levels may differ, where a probability lies on a border.
#include <algorithm>
#include <cstring>

#include "../cpu/path.h"
#include "../reference/reference.h"
#include "check.h"

using namespace qcompiler::cpu;
namespace reference = qcompiler::reference;

namespace {

struct Case {
  int batch, tokens, heads, dim, bits, levels, bias_batch, bias_heads;
  int block = 0;   // channels of one block; 0: tables of groups
  int v_bits = 0;  // in blocks, where it differs
};

struct Operator {
  AttentionSpec spec;
  std::vector<float> q, k, v, p;
  std::vector<std::uint8_t> levels;
};

std::vector<float> table(int bits, float zero_share, Random* random) {
  std::vector<float> groups;
  const float top = static_cast<float>((1 << bits) - 1);
  for (int g = 0; g < 5; ++g) {
    const float width = 1.0f + static_cast<float>(g) * random->uniform(0.8f, 1.2f);
    const float scale = width / top;
    const float zero = std::rint(zero_share * top);
    groups.insert(groups.end(), {-zero * scale, (top - zero) * scale, scale, zero, 1.0f, scale});
  }
  return groups;
}

void make_operator(const Case& c, Operator* op) {
  Random random(static_cast<std::uint64_t>(c.tokens * 5 + c.bits));
  op->q = table(c.bits, 0.5f, &random);  // 8 bits: zero point 128, code 0 saturates
  op->k = table(c.bits, 0.45f, &random);
  op->v = table(c.bits, 0.55f, &random);
  for (int g = 0; g < 4; ++g) {
    const float upper = 0.02f * static_cast<float>(1 << 2 * g);
    const float scale = std::min(upper, 1.0f) / static_cast<float>(c.levels - 1);
    // A codebook's operands are not its codes: the outer scale belongs to the operands.
    op->p.insert(op->p.end(), {0.0f, upper, scale, 0.0f, 1.0f, scale * 1.25f});
  }
  const bool codebook = c.levels == 128 || c.levels == 100;
  for (int t = 0; t < c.levels; ++t) {
    op->levels.push_back(static_cast<std::uint8_t>(codebook ? t * t / 127 : t));
  }
  AttentionSpec& spec = op->spec;
  spec.num_heads = c.heads;
  spec.scale = 1.0f / std::sqrt(static_cast<float>(c.dim));
  spec.bits = c.bits;
  spec.q = {op->q.data(), 5};
  spec.k = {op->k.data(), 5};
  spec.v = {op->v.data(), 5};
  spec.p = {op->p.data(), 4};
  spec.levels = op->levels.data();
  spec.num_levels = c.levels;
  if (c.block == 0) return;
  spec.in_blocks = true;
  spec.q = spec.k = spec.v = GroupTable();
  spec.qk_blocks = spec.v_blocks = {c.bits, c.block, c.bits % 2 == 0 ? 1.0f : 0.85f, 0.25f};
  spec.v_blocks.bits = c.v_bits > 0 ? c.v_bits : c.bits;
}

// The operands of one matrix of one head, and the group of every item.
std::vector<std::int32_t> operands(const float* x, std::int64_t ld, int rows, int cols, bool by_columns,
                                   const GroupTable& groups, int bits, std::vector<float>* outer) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(rows * cols));
  const float top = static_cast<float>((1 << bits) - 1);
  for (int i = 0; i < (by_columns ? cols : rows); ++i) {
    float low = by_columns ? x[i] : x[i * ld], high = low;
    for (int j = 0; j < (by_columns ? rows : cols); ++j) {
      const float value = by_columns ? x[j * ld + i] : x[i * ld + j];
      low = std::min(low, value);
      high = std::max(high, value);
    }
    const reference::Group group = reference::group_at(groups, reference::assign_group(low, high, groups));
    outer->push_back(group.outer);
    for (int j = 0; j < (by_columns ? rows : cols); ++j) {
      const float value = by_columns ? x[j * ld + i] : x[i * ld + j];
      out[static_cast<std::size_t>(by_columns ? j * cols + i : i * cols + j)] =
          reference::signed_operand(reference::quantize(value, group, top), group);
    }
  }
  return out;
}

// The same in blocks.
std::vector<std::int32_t> block_operands(const float* x, std::int64_t ld, int rows, int cols, const BlockSpec& blocks,
                                         bool shared, std::vector<float>* outer) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(rows * cols));
  for (int m = 0; m < rows; ++m) {
    outer->push_back(shared ? reference::block_scale(blocks, x, ld, rows, cols)
                            : reference::block_scale(blocks, x + m * ld, 0, 1, cols));
    reference::quantize_blocks(blocks, x + m * ld, cols, outer->back(), out.data() + m * cols);
  }
  if (shared) outer->assign(static_cast<std::size_t>(cols), outer->front());
  return out;
}

void naive_head(const AttentionSpec& spec, const AttentionCall& call, const Stages& stages, int b, int h, float* y) {
  const int tokens = static_cast<int>(call.tokens), dim = static_cast<int>(call.head_dim);
  const std::int64_t width = spec.num_heads * dim;
  const float* x = call.qkv + b * tokens * 3 * width + h * dim;
  std::vector<float> q_outer, k_outer, v_outer;
  const auto row_operands = [&](const float* rows, const GroupTable& groups, std::vector<float>* outer) {
    return spec.in_blocks ? block_operands(rows, 3 * width, tokens, dim, spec.qk_blocks, false, outer)
                          : operands(rows, 3 * width, tokens, dim, false, groups, spec.bits, outer);
  };
  const auto q = row_operands(x, spec.q, &q_outer);
  const auto k = row_operands(x + width, spec.k, &k_outer);
  const auto v = spec.in_blocks
                     ? block_operands(x + 2 * width, 3 * width, tokens, dim, spec.v_blocks, true, &v_outer)
                     : operands(x + 2 * width, 3 * width, tokens, dim, true, spec.v, spec.bits, &v_outer);
  const std::size_t ld = static_cast<std::size_t>((tokens + 15) / 16 * 16);
  std::vector<float> p(ld, 0.0f);
  for (int n = 0; n < tokens; ++n) {
    const float row_scale = q_outer[static_cast<std::size_t>(n)] * spec.scale;
    for (int m = 0; m < tokens; ++m) {
      std::int32_t acc = 0;
      for (int d = 0; d < dim; ++d)
        acc += q[static_cast<std::size_t>(n * dim + d)] * k[static_cast<std::size_t>(m * dim + d)];
      const float scaled = static_cast<float>(acc) * row_scale;
      float score = scaled * k_outer[static_cast<std::size_t>(m)];
      if (call.bias != nullptr) {
        const std::int64_t head = call.bias_heads == 1 ? 0 : h;
        score += call.bias[((b % call.bias_batch * call.bias_heads + head) * tokens + n) * tokens + m];
      }
      p[static_cast<std::size_t>(m)] = score;
    }
    float low, high;
    stages.softmax(p.data(), static_cast<std::ptrdiff_t>(ld), 1, tokens, &low, &high);
    reference::Group group = reference::group_at(spec.p, reference::assign_group(low, high, spec.p));
    group.zero_point = 0.0f;
    for (int d = 0; d < dim; ++d) {
      std::int32_t acc = 0;
      for (int m = 0; m < tokens; ++m) {
        const float level =
            reference::quantize(p[static_cast<std::size_t>(m)], group, static_cast<float>(spec.num_levels - 1));
        acc += spec.levels[static_cast<std::size_t>(level)] * v[static_cast<std::size_t>(m * dim + d)];
      }
      const float scaled = static_cast<float>(acc) * group.outer;
      y[(b * tokens + n) * width + h * dim + d] = scaled * v_outer[static_cast<std::size_t>(d)];
    }
  }
}

void check_case(const char* name, const Case& c) {
  Operator op;
  make_operator(c, &op);
  Random random(21);
  const std::size_t width = static_cast<std::size_t>(c.heads * c.dim), tokens = static_cast<std::size_t>(c.tokens);
  std::vector<float> qkv(static_cast<std::size_t>(c.batch) * tokens * 3 * width);
  std::vector<float> bias(static_cast<std::size_t>(c.bias_batch * c.bias_heads) * tokens * tokens);
  for (float& v : qkv) v = random.normal();
  for (float& v : bias) v = random.integer(0, 9) == 0 ? -100.0f : random.normal();
  AttentionCall call;
  call.qkv = qkv.data();
  call.batch = c.batch;
  call.tokens = c.tokens;
  call.head_dim = c.dim;
  if (c.bias_batch > 0) {
    call.bias = bias.data();
    call.bias_batch = c.bias_batch;
    call.bias_heads = c.bias_heads;
  }
  const std::size_t size = static_cast<std::size_t>(c.batch) * tokens * width;
  std::vector<float> want(size), naive(size), y(size);
  call.y = want.data();
  reference::group_attention(op.spec, call);
  Status status = nullptr;
  const Path& path = *active_path(&status);
  naive = want;
  if (!is_reference(path)) {
    for (int b = 0; b < c.batch; ++b) {
      for (int h = 0; h < c.heads; ++h) naive_head(op.spec, call, *path.stages, b, h, naive.data());
    }
  }

  Attention* attention = nullptr;
  status = attention_create(op.spec, &attention);
  CHECK(status == nullptr, "%s: %s", name, status == nullptr ? "" : status);
  if (attention == nullptr) return;
  call.y = y.data();
  for (const int thread_count : {1, 3, 16}) {
    std::fill(y.begin(), y.end(), -1.0f);
    const Aligned scratch(attention_scratch_bytes(attention, c.batch, c.tokens, c.dim, thread_count));
    status = attention_run(attention, call, scratch.get(), threads(thread_count));
    CHECK(status == nullptr, "%s: %s", name, status == nullptr ? "" : status);
    int wrong = 0, far = 0;
    for (std::size_t i = 0; i < size; ++i) {
      wrong += y[i] == naive[i] ? 0 : 1;
      // One level more or less of one probability.
      far += std::fabs(y[i] - want[i]) <= 0.05f ? 0 : 1;
    }
    CHECK(wrong == 0, "%s: [%d, %d, %d x %d], %d bits, blocks of %d, %d levels, %d threads: %d wrong", name, c.batch,
          c.tokens, c.heads, c.dim, c.bits, c.block, c.levels, thread_count, wrong);
    CHECK(far == 0, "%s: [%d, %d, %d x %d], %d bits, blocks of %d, %d levels: %d far from the definition", name,
          c.batch, c.tokens, c.heads, c.dim, c.bits, c.block, c.levels, far);
  }
  attention_destroy(attention);
}

void test_refusals(const char* name) {
  Operator op;
  make_operator({1, 4, 2, 8, 4, 16, 0, 0}, &op);
  Attention* attention = nullptr;
  AttentionSpec spec = op.spec;
  spec.num_levels = 257;
  CHECK(attention_create(spec, &attention) != nullptr && attention == nullptr, "%s: 257 levels", name);
  spec = op.spec;
  spec.p.count = 0;
  CHECK(attention_create(spec, &attention) != nullptr, "%s: no groups", name);
  CHECK(attention_create(op.spec, &attention) == nullptr, "%s", name);
  if (attention == nullptr) return;
  AttentionCall call;
  CHECK(attention_run(attention, call, nullptr, Parallel()) == nullptr, "%s: no tokens", name);
  std::vector<float> memory(4 * 3 * 16);
  call.qkv = call.bias = memory.data();
  call.y = memory.data();
  call.batch = 3;
  call.tokens = 1;
  call.head_dim = 8;
  call.bias_batch = 2;
  call.bias_heads = 1;
  CHECK(attention_run(attention, call, memory.data(), Parallel()) != nullptr, "%s: bias batch 2 of 3", name);
  attention_destroy(attention);
}

// Every operand at its extreme: a product that saturated or wrapped would show.
void test_extremes(const char* name, int tokens, int dim) {
  Operator op;
  // 2 bits: multipliers up to 63, and 63 * (3 - 0) saturates at 127; all tokens alike, so that p = 1 / tokens.
  make_operator({1, tokens, 1, dim, 2, 2, 0, 0, dim}, &op);
  op.levels = {0, 255};
  op.p = {0.0f, 1.0f, 0.5f / static_cast<float>(tokens), 0.0f, 1.0f, 1.0f};
  op.spec.levels = op.levels.data();
  op.spec.p = {op.p.data(), 1};
  op.spec.scale = 1e-6f;
  const std::size_t width = static_cast<std::size_t>(dim), count = static_cast<std::size_t>(tokens);
  for (const float value : {126.0f, -126.0f}) {
    // The reach is 126, so that the scale is 1; -24 makes the zero point 0 and the multiplier 50.
    std::vector<float> qkv(count * 3 * width, value), y(count * width);
    for (std::size_t i = 0; i < qkv.size(); i += width) qkv[i] = value > 0 ? -24.0f : 24.0f;
    Attention* attention = nullptr;
    CHECK(attention_create(op.spec, &attention) == nullptr, "%s", name);
    if (attention == nullptr) return;
    AttentionCall call;
    call.qkv = qkv.data();
    call.y = y.data();
    call.tokens = tokens;
    call.head_dim = dim;
    const Aligned scratch(attention_scratch_bytes(attention, 1, tokens, dim, 1));
    CHECK(attention_run(attention, call, scratch.get(), threads(1)) == nullptr, "%s", name);
    bool right = true;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float operand = i % width == 0 ? 0.0f : value > 0 ? 127.0f : -127.0f;
      right = right && y[i] == 255.0f * static_cast<float>(tokens) * operand;
    }
    CHECK(right, "%s: %d tokens of %g: %g", name, tokens, static_cast<double>(value), static_cast<double>(y[1]));
    attention_destroy(attention);
  }
}

void test_block_refusals(const char* name) {
  Operator op;
  make_operator({1, 4, 2, 8, 4, 16, 0, 0, 4}, &op);
  const auto accepts = [](const AttentionSpec& spec) {
    Attention* attention = nullptr;
    const Status status = attention_create(spec, &attention);
    attention_destroy(attention);
    return status == nullptr;
  };
  CHECK(accepts(op.spec), "%s", name);
  for (BlockSpec AttentionSpec::*const side : {&AttentionSpec::qk_blocks, &AttentionSpec::v_blocks}) {
    for (const BlockSpec& bad : {BlockSpec{1, 4, 1, 0.25f}, BlockSpec{8, 4, 1, 0.25f}, BlockSpec{4, 0, 1, 0.25f},
                                 BlockSpec{4, 4, 0, 0.25f}, BlockSpec{4, 4, 1, 0.75f}}) {
      AttentionSpec spec = op.spec;
      spec.*side = bad;
      CHECK(!accepts(spec), "%s: %d bits, blocks of %d", name, bad.bits, static_cast<int>(bad.block));
    }
  }
  Attention* attention = nullptr;
  CHECK(attention_create(op.spec, &attention) == nullptr, "%s", name);
  if (attention == nullptr) return;
  std::vector<float> memory(3 * 2 * 6);
  AttentionCall call;
  call.qkv = call.y = memory.data();
  call.tokens = 1;
  call.head_dim = 6;
  CHECK(attention_run(attention, call, memory.data(), Parallel()) != nullptr, "%s: blocks of 4, heads of 6", name);
  attention_destroy(attention);
}

}  // namespace

void test_attention(const char* name, bool quick) {
  check_case(name, {1, 1, 1, 1, 4, 16, 0, 0});
  check_case(name, {1, 20, 2, 32, 4, 16, 0, 0});
  check_case(name, {2, 17, 2, 20, 8, 256, 2, 2});
  check_case(name, {2, 33, 1, 33, 6, 128, 1, 1});
  check_case(name, {4, 5, 1, 4, 4, 16, 2, 1});  // row b uses bias[b % 2], not bias[b / 2]
  check_case(name, {1, 70, 1, 16, 8, 100, 0, 0});
  check_case(name, {1, 1, 1, 1, 4, 16, 0, 0, 1});
  check_case(name, {1, 20, 2, 32, 4, 16, 0, 0, 32});
  check_case(name, {2, 17, 2, 20, 5, 128, 2, 2, 5, 3});
  check_case(name, {2, 33, 1, 33, 6, 256, 1, 1, 11, 7});
  check_case(name, {1, 40, 1, 32, 2, 4, 0, 0, 16, 4});
  test_extremes(name, 70, 48);
  if (!quick) {
    check_case(name, {4, 49, 3, 32, 4, 128, 2, 3});
    check_case(name, {4, 49, 3, 32, 8, 256, 4, 1});
    check_case(name, {1, 197, 3, 64, 4, 128, 0, 0});
    check_case(name, {1, 197, 2, 64, 8, 256, 0, 0});
    check_case(name, {1, 197, 2, 64, 6, 64, 1, 2});
    check_case(name, {1, 1100, 1, 8, 3, 8, 0, 0});
    check_case(name, {4, 49, 3, 32, 4, 128, 2, 3, 32});
    check_case(name, {1, 197, 3, 64, 4, 128, 0, 0, 64, 6});
    check_case(name, {1, 197, 2, 64, 7, 256, 1, 2, 32, 3});
    check_case(name, {1, 1100, 1, 8, 3, 8, 0, 0, 4, 5});
    test_extremes(name, 1100, 200);
  }
  test_refusals(name);
  test_block_refusals(name);
}
