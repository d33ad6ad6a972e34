// Times of the kernels on one thread, with the share of each stage, beside a float32 product of the same shape.
//
//   cd runtime_ops
//   g++ -std=c++17 -O2 -ffp-contract=off -o bench_kernels tests/bench_kernels.cc cpu/*.cc cpu/isa/*.cc reference/*.cc
//   ./bench_kernels [PATH]
// GOPS counts a multiplication and an addition as two. The float product is a 6 x 16 AVX2 kernel over packed weights,
// without front end or epilogue; `x float` is its time over the whole operator's. The stages are timed one by one on
// whole matrices, so their shares add up to 100 only roughly.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <vector>

#include "../cpu/kernels.h"
#include "../cpu/pack.h"
#include "../cpu/path.h"
#include "../cpu/scratch.h"
#include "../cpu/windows.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace qcompiler::cpu;

namespace {

constexpr int kTokens = 197;
constexpr int kBlock = 32;  // channels of one block

double thread_time() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

// Microseconds of processor time of the fastest of several runs: the machine may be shared.
double best_time(const std::function<void()>& run) {
  double best = 1e30, spent = 0.0;
  for (int i = 0; i < 300 && (spent < 3e5 || i < 3); ++i) {
    const double start = thread_time();
    run();
    const double time = thread_time() - start;
    best = std::min(best, time);
    spent += time;
  }
  return best;
}

std::vector<float> random_floats(std::size_t count, float low, float high) {
  std::vector<float> values(count);
  std::uint32_t state = 12345;
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = low + (high - low) * static_cast<float>(state >> 8) / 16777216.0f;
  }
  return values;
}

#if defined(__x86_64__)
// Six rows times one packed panel [k][16], added to c.
__attribute__((target("avx2,fma"))) void float_tile(const float* a, std::ptrdiff_t lda, const float* b, int k, float* c,
                                                    std::ptrdiff_t ldc) {
  __m256 s[6][2];
#pragma GCC unroll 6
  for (int m = 0; m < 6; ++m) s[m][0] = s[m][1] = _mm256_setzero_ps();
  for (int i = 0; i < k; ++i, b += 16) {
    const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
    for (int m = 0; m < 6; ++m) {
      const __m256 x = _mm256_broadcast_ss(a + m * lda + i);
      __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(s[m][0]) : "x"(x), "x"(b0));
      __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(s[m][1]) : "x"(x), "x"(b1));
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < 6; ++m) {
    _mm256_storeu_ps(c + m * ldc, _mm256_add_ps(s[m][0], _mm256_loadu_ps(c + m * ldc)));
    _mm256_storeu_ps(c + m * ldc + 8, _mm256_add_ps(s[m][1], _mm256_loadu_ps(c + m * ldc + 8)));
  }
}

// Depth in steps of at most 256: a panel of 16 KiB stays in the first-level cache.
double float_time(int c, int d) {
  const int rows = (kTokens + 5) / 6 * 6;
  const auto a = random_floats(static_cast<std::size_t>(rows * c), -1, 1);
  const auto b = random_floats(static_cast<std::size_t>(c * d), -1, 1);
  std::vector<float> y(static_cast<std::size_t>(rows * d));
  const double time = best_time([&] {
    for (int k = 0; k < c; k += 256) {
      for (int n = 0; n < d; n += 16) {
        for (int m = 0; m < rows; m += 6) {
          float_tile(a.data() + m * c + k, c, b.data() + k * d + n * std::min(256, c - k), std::min(256, c - k),
                     y.data() + m * d + n, d);
        }
      }
    }
  });
  return time * kTokens / rows;
}
#else
double float_time(int, int) { return 0.0; }
#endif

std::vector<float> group_table(int count, int bits, Grouping grouping) {
  std::vector<float> table;
  const float top = static_cast<float>((1 << bits) - 1);
  for (int g = 0; g < count; ++g) {
    const float width = 0.5f + 3.0f * static_cast<float>(g) / static_cast<float>(count);
    const float scale = width / top;
    const float multiplier =
        grouping == Grouping::kChannels ? static_cast<float>(g % std::max(1, 128 >> bits) + 1) : 1.0f;
    table.insert(table.end(), {-0.5f * width, 0.5f * width, scale, std::floor(top / 2) + 1, multiplier, 0.01f});
  }
  return table;
}

struct Shape {
  const char* name;
  int c, d;
};

void bench_linear(const Path& path, const Shape& shape, Grouping grouping, int bits, bool int4, Gelu gelu, bool norm,
                  int weight_block = 0) {
  const std::size_t c = static_cast<std::size_t>(shape.c), d = static_cast<std::size_t>(shape.d);
  std::vector<std::int8_t> weight(c * d);
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const int value = static_cast<int>(i * 2654435761u >> 13 & 255);
    weight[i] = static_cast<std::int8_t>(int4 ? value % 16 - 8 : value - 128);
  }
  const auto ones = random_floats(std::max(c, d), 0.5f, 1.5f);
  const auto groups = group_table(8, bits, grouping);
  const auto x = random_floats(kTokens * c, -2, 2);
  std::vector<float> y(kTokens * d);
  LinearSpec spec;
  spec.channels = shape.c;
  spec.outputs = shape.d;
  spec.weight = weight.data();
  spec.w_scale = ones.data();
  spec.groups = {groups.data(), 8};
  spec.bits = bits;
  spec.grouping = grouping;
  spec.block = kBlock;
  spec.slack = 0.25f;
  // Multipliers 1 to 4: operands up to 60, as a compiled model has them.
  std::vector<std::uint8_t> w_blocks;
  if (weight_block > 0) {
    spec.weight_blocks = shape.c / weight_block;
    for (std::int64_t i = 0; i < spec.weight_blocks * shape.d; ++i) {
      w_blocks.push_back(static_cast<std::uint8_t>((i % 4 + 1) << 4 | 8));
    }
    spec.w_blocks = w_blocks.data();
  }
  spec.gelu = gelu;
  spec.gamma = norm ? ones.data() : nullptr;
  Linear* linear = nullptr;
  if (const Status status = linear_create(spec, &linear)) {
    std::printf("%s\n", status);
    std::exit(1);
  }
  void* scratch = std::aligned_alloc(64, linear_scratch_bytes(linear, 1, kTokens, 1));
  LinearCall call;
  call.x = x.data();
  call.y = y.data();
  call.rows = kTokens;
  const double total = best_time([&] { linear_run(linear, call, scratch, Parallel()); });

  // The product alone, with the format that the operator has.
  const int max_a = grouping == Grouping::kBlocks ? 254 : (1 << bits) - 1 + (grouping == Grouping::kChannels ? 100 : 0);
  const PanelFormat format = choose_format(path, max_a, weight_block > 0 ? 60 : (int4 ? 8 : 128));
  const std::ptrdiff_t lda = left_stride(shape.c);
  std::vector<std::uint8_t> a(static_cast<std::size_t>(lda * 224), 7);
  std::vector<char> packed(static_cast<std::size_t>(format.bytes(shape.c, shape.d)));
  std::vector<std::int8_t> operands = weight;
  for (std::size_t i = 0; i < w_blocks.size() * static_cast<std::size_t>(weight_block); ++i) {
    const std::size_t block = i / d / static_cast<std::size_t>(weight_block) * d + i % d;
    operands[i] = static_cast<std::int8_t>(operands[i] * (w_blocks[block] >> 4));
  }
  pack_rows(operands.data(), shape.d, nullptr, shape.c, shape.d, format, packed.data());
  std::vector<std::int32_t> acc(224 * 64);
  const Panels panels = format.panels(packed.data(), shape.c);
  const std::vector<std::uint8_t> windows = choose_windows(path, max_a, panels, shape.d / kPanel);
  const double product = best_time([&] {
    if (path.enter != nullptr) path.enter();
    for (int n = 0; n < shape.d; n += 64) {
      Panels block = panels;
      block.data = packed.data() + n / 16 * panels.stride;
      if (!windows.empty()) block.windows = windows.data() + n / 16 * (panels.depth / 4);
      path.product(a.data(), lda, kTokens, block, std::min(4, (shape.d - n) / 16), acc.data(), 64);
    }
    if (path.leave != nullptr) path.leave();
  });
  // The epilogue alone, in blocks that stay in the cache.
  const double epilogue = best_time([&] {
    const std::vector<float> outer(kTokens, 1e-6f);
    for (int n = 0; n < shape.d; n += 64) {
      Epilogue e;
      e.acc = acc.data();
      e.ld_acc = 64;
      e.rows = kTokens;
      e.cols = std::min(64, shape.d - n);
      e.outer = outer.data();
      e.w_scale = ones.data() + n;
      e.bias = ones.data() + n;
      e.gelu = gelu;
      e.y = y.data() + n;
      e.ld_y = shape.d;
      path.stages->epilogue(e);
    }
  });
  const double gops = 2e-3 * kTokens * static_cast<double>(c * d);
  const double plain = float_time(shape.c, shape.d);
  const char* const names[] = {"rows", "channels", "segments", "blocks"};
  std::printf(
      "%-12s %4d -> %4d %-8s a%d w%d%-2s %-5s%-3s %8.0f us %6.0f GOPS %5.2f x float (%3.0f GFLOPS) | product %3.0f %% "
      "(%4.0f GOPS) epilogue %3.0f %% rest %3.0f %%\n",
      shape.name, shape.c, shape.d, names[static_cast<int>(grouping)], bits, int4 ? 4 : 8,
      weight_block > 0 ? "b" : "",
      gelu == Gelu::kNone ? "" : "gelu", norm ? "ln" : "", total, gops / total, plain / total, gops / plain,
      100 * product / total, gops / product, 100 * epilogue / total, 100 * (total - product - epilogue) / total);
  std::free(scratch);
  linear_destroy(linear);
}

void bench_attention(const Path& path, const char* name, int batch, int tokens, int heads, int dim, int bits,
                     int channels = 0) {
  const int levels = bits == 8 ? 256 : 128;
  const auto groups = group_table(8, bits, Grouping::kRows);
  std::vector<std::uint8_t> table(static_cast<std::size_t>(levels));
  for (std::size_t t = 0; t < table.size(); ++t) table[t] = static_cast<std::uint8_t>(bits == 8 ? t : t * t / 127);
  std::vector<float> p;
  for (int g = 0; g < 4; ++g)
    p.insert(p.end(),
             {0.0f, 0.02f * static_cast<float>(g + 1), 0.0002f * static_cast<float>(g + 1), 0.0f, 1.0f, 0.0002f});
  AttentionSpec spec;
  spec.num_heads = heads;
  spec.scale = 0.125f;
  spec.bits = bits;
  spec.q = spec.k = spec.v = {groups.data(), 8};
  spec.in_blocks = channels > 0;
  spec.qk_blocks = spec.v_blocks = {bits, channels, 1.0f, 0.25f};
  spec.p = {p.data(), 4};
  spec.levels = table.data();
  spec.num_levels = levels;
  Attention* attention = nullptr;
  if (const Status status = attention_create(spec, &attention)) {
    std::printf("%s\n", status);
    std::exit(1);
  }
  const std::size_t rows = static_cast<std::size_t>(batch * tokens), width = static_cast<std::size_t>(heads * dim);
  const auto qkv = random_floats(rows * 3 * width, -2, 2);
  std::vector<float> y(rows * width);
  void* scratch = std::aligned_alloc(64, attention_scratch_bytes(attention, batch, tokens, dim, 1));
  AttentionCall call;
  call.qkv = qkv.data();
  call.y = y.data();
  call.batch = batch;
  call.tokens = tokens;
  call.head_dim = dim;
  const double total = best_time([&] { attention_run(attention, call, scratch, Parallel()); });

  // Stages per head, on a block of rows that stays in the cache.
  const int block = 24;
  const std::ptrdiff_t ld = round_up(tokens, 16);
  std::vector<float> x(static_cast<std::size_t>(block * ld), 0.5f), low(32), high(32);
  // Ten at a time: a block takes a few microseconds, and reading the clock one.
  const double blocks = static_cast<double>(batch) * heads * tokens / block / 10;
  const double softmax = blocks * best_time([&] {
                           for (int i = 0; i < 10; ++i)
                             path.stages->softmax(x.data(), ld, block, tokens, low.data(), high.data());
                         });
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(block * left_stride(tokens)));
  const std::vector<std::int32_t> index(32, 0);
  const RowQuantizer quantizer = {100.0f, 0.0f, 127.0f, 0};
  const double quantize =
      blocks * best_time([&] {
        for (int i = 0; i < 10; ++i) {
          path.stages->quantize_rows(x.data(), ld, block, tokens, &quantizer, index.data(), bytes.data(),
                                     left_stride(tokens));
          if (bits != 8) path.stages->map_bytes(bytes.data(), left_stride(tokens), block, tokens, table.data(), levels);
        }
      });
  const double gops = 4e-3 * static_cast<double>(batch) * heads * tokens * tokens * dim;
  std::printf(
      "attention %-10s %2d x %3d tokens, %2d heads x %d, %-6s a%d %8.0f us %6.0f GOPS | softmax %3.0f %% levels %3.0f "
      "%%\n",
      name, batch, tokens, heads, dim, channels > 0 ? "blocks" : "groups", bits, total, gops / total,
      100 * softmax / total, 100 * quantize / total);
  std::free(scratch);
  attention_destroy(attention);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    if (const Status status = select_path(argv[1])) {
      std::printf("%s\n", status);
      return 1;
    }
  }
  Status status = nullptr;
  const Path* path = active_path(&status);
  if (path == nullptr || is_reference(*path)) {
    std::printf("%s\n", status != nullptr ? status : "the reference path has no stages to time");
    return 1;
  }
  std::printf("path %s, one thread, %d tokens\n", path->name, kTokens);
  const Shape shapes[] = {{"DeiT-T qkv", 192, 576},  {"DeiT-T proj", 192, 192}, {"DeiT-T fc2", 768, 192},
                          {"DeiT-S qkv", 384, 1152}, {"DeiT-S fc2", 1536, 384}, {"ViT-B qkv", 768, 2304},
                          {"ViT-B fc2", 3072, 768}};
  const Shape first[] = {{"DeiT-T fc1", 192, 768}, {"DeiT-S fc1", 384, 1536}, {"ViT-B fc1", 768, 3072}};
  for (const Shape& shape : shapes) bench_linear(*path, shape, Grouping::kChannels, 4, true, Gelu::kNone, true);
  for (const Shape& shape : first) bench_linear(*path, shape, Grouping::kChannels, 4, true, Gelu::kErf, true);
  for (const Grouping grouping : {Grouping::kRows, Grouping::kChannels, Grouping::kSegments}) {
    for (const int bits : {4, 6, 8}) {
      for (const bool int4 : {true, false})
        bench_linear(*path, {"ViT-B proj", 768, 768}, grouping, bits, int4, Gelu::kNone, false);
    }
  }
  for (const int bits : {4, 6}) {
    for (const int weight_block : {0, kBlock}) {
      bench_linear(*path, {"ViT-B proj", 768, 768}, Grouping::kBlocks, bits, true, Gelu::kNone, false, weight_block);
    }
  }
  bench_linear(*path, {"DeiT-T qkv", 192, 576}, Grouping::kBlocks, 4, true, Gelu::kNone, true);
  bench_linear(*path, {"DeiT-T fc1", 192, 768}, Grouping::kBlocks, 4, true, Gelu::kErf, true);
  bench_linear(*path, {"DeiT-T fc2", 768, 192}, Grouping::kBlocks, 4, true, Gelu::kNone, false);
  bench_linear(*path, {"ViT-B fc2", 3072, 768}, Grouping::kBlocks, 4, true, Gelu::kNone, false);
  bench_attention(*path, "DeiT-T", 1, 197, 3, 64, 4);
  bench_attention(*path, "DeiT-S", 1, 197, 6, 64, 4);
  bench_attention(*path, "DeiT-S", 1, 197, 6, 64, 8);
  bench_attention(*path, "ViT-B", 1, 197, 12, 64, 6);
  bench_attention(*path, "Swin-T", 64, 49, 3, 32, 4);
  bench_attention(*path, "DeiT-S", 1, 197, 6, 64, 4, 64);
  bench_attention(*path, "DeiT-S", 1, 197, 6, 64, 4, 32);
  bench_attention(*path, "Swin-T", 64, 49, 3, 32, 4, 32);
  return 0;
}
