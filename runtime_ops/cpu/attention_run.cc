// Attention, one head at a time: q, k and v to integers, then blocks of rows through scores, softmax, levels and the
// product with v. A block of rows is small enough that its scores stay in the first-level cache.
#include <algorithm>

#include "attention.h"
#include "parallel.h"
#include "scratch.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr std::ptrdiff_t kScoreBytes = 24 * 1024;  // of one block of scores
constexpr int kMaxBlock = 64;

struct Problem {
  std::int64_t tokens, head_dim, heads;
  std::int64_t parts;  // tasks per head, when there are more threads than heads
  std::int64_t block;  // rows of one block
  std::ptrdiff_t ld;         // row stride of qkv
  std::ptrdiff_t ld_head;    // of q, k, v bytes
  std::ptrdiff_t ld_scores;  // of scores, in floats
  std::ptrdiff_t ld_levels;  // of the operands of the probabilities
};

// Scratch of one worker.
struct Worker {
  std::uint8_t* q;         // [tokens padded, ld_head]
  std::int8_t* bytes;      // [tokens, ld_head] k, then v, before packing
  std::uint8_t *k_panels, *v_panels;
  std::int32_t* q_zero;    // [tokens padded]
  std::int32_t* k_sum;     // [tokens padded] column sums of k^T
  float *q_scale, *k_scale;  // [tokens padded]
  float* v_scale;          // [head_dim padded]
  float *lower, *upper;    // ranges of tokens or head channels, padded
  std::int32_t* index;
  float *inverse, *low, *high;  // [head_dim padded] quantizers of v
  float* blocks;           // scratch of quantize_blocks
  std::uint8_t* ones;      // [ld_head]
  std::int32_t* scores;    // [block, ld_scores]
  std::uint8_t* levels;    // [block, ld_levels]
  float* p_scale;          // [block padded]
  std::int32_t* acc;       // [block, head_dim padded]
};

void take_worker(Arena& arena, const Attention& attention, const Problem& s, Worker* w) {
  const std::ptrdiff_t tokens = round_up(s.tokens, kMaxBlock);
  const std::ptrdiff_t head = round_up(s.head_dim, kPanel);
  const std::ptrdiff_t block = round_up(s.block, kMaxBlock);
  const std::ptrdiff_t items = std::max(tokens, head);
  w->q = arena.take<std::uint8_t>((tokens + kMaxBlock) * s.ld_head);
  w->bytes = arena.take<std::int8_t>(s.tokens * s.ld_head);
  w->k_panels = arena.take<std::uint8_t>(attention.k_format.bytes(s.head_dim, s.tokens));
  w->v_panels = arena.take<std::uint8_t>(attention.v_format.bytes(s.tokens, s.head_dim));
  w->q_zero = arena.take<std::int32_t>(tokens);
  w->k_sum = arena.take<std::int32_t>(round_up(tokens, kPanel) * attention.path->row_multiple);
  w->q_scale = arena.take<float>(tokens);
  w->k_scale = arena.take<float>(tokens);
  w->v_scale = arena.take<float>(head);
  w->lower = arena.take<float>(items);
  w->upper = arena.take<float>(items);
  w->index = arena.take<std::int32_t>(items);
  w->inverse = arena.take<float>(head);
  w->low = arena.take<float>(head);
  w->high = arena.take<float>(head);
  std::ptrdiff_t work = 0;
  for (const BlockQuantizer* const q : {&attention.q_blocks, &attention.v_blocks}) {
    if (q->block > 0) work = std::max(work, block_work(static_cast<int>(s.head_dim / q->block)));
  }
  w->blocks = arena.take<float>(work);
  w->ones = arena.take<std::uint8_t>(s.ld_head * attention.path->row_multiple);
  w->scores = arena.take<std::int32_t>(block * s.ld_scores);
  w->levels = arena.take<std::uint8_t>(block * s.ld_levels);
  w->p_scale = arena.take<float>(block);
  w->acc = arena.take<std::int32_t>(block * head);
}

Problem describe(const Attention& attention, std::int64_t batch, std::int64_t tokens, std::int64_t head_dim,
                 int threads) {
  Problem s;
  s.tokens = tokens;
  s.head_dim = head_dim;
  s.heads = attention.spec.num_heads;
  s.ld = 3 * s.heads * head_dim;
  s.ld_head = left_stride(head_dim);
  s.ld_scores = round_up(tokens, kPanel);
  s.ld_levels = left_stride(tokens);
  const std::int64_t step = attention.path->row_block;
  const std::int64_t fitting = kScoreBytes / (4 * s.ld_scores) / step * step;
  s.block = std::min<std::int64_t>(std::max(fitting, step), kMaxBlock / step * step);
  const std::int64_t heads = batch * s.heads;
  const std::int64_t wanted = (std::max(threads, 1) + heads - 1) / heads;
  s.parts = std::min(wanted, (tokens + s.block - 1) / s.block);
  return s;
}

std::size_t worker_bytes(const Attention& attention, const Problem& s) {
  Arena arena(nullptr);
  Worker worker;
  take_worker(arena, attention, s, &worker);
  return arena.used();
}

// One pass per matrix of rows: ranges, groups, bytes.
void quantize_rows(const Attention& attention, const GroupQuantizer& quantizer, const float* x, std::ptrdiff_t ld,
                   std::int64_t rows, const Problem& s, const Worker& w, std::uint8_t* out) {
  const Stages& stages = *attention.path->stages;
  const int count = static_cast<int>(rows), cols = static_cast<int>(s.head_dim);
  stages.row_ranges(x, ld, count, cols, w.lower, w.upper);
  stages.assign(w.lower, w.upper, count, quantizer.columns(), w.index);
  stages.quantize_rows(x, ld, count, cols, quantizer.rows.data(), w.index, out, s.ld_head);
}

// The same in blocks; scale[m] is the outer scale of row m.
void quantize_blocks(const Attention& attention, const BlockQuantizer& quantizer, const float* x, std::int64_t rows,
                     bool shared, const Problem& s, const Worker& w, float* scale, std::uint8_t* out) {
  attention.path->stages->quantize_blocks(x, s.ld, static_cast<int>(rows), static_cast<int>(s.head_dim), quantizer,
                                          shared, w.blocks, scale, out, s.ld_head);
}

// Rows of a head lie far apart, where no processor expects them: asks for those that are needed soon.
void prefetch_rows(const float* x, std::ptrdiff_t ld, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kLine = 16;  // floats
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t c = 0; c < cols; c += kLine) __builtin_prefetch(x + m * ld + c);
    __builtin_prefetch(x + m * ld + cols - 1);
  }
}

void prepare_q(const Attention& attention, const float* x, std::int64_t begin, std::int64_t end, const Problem& s,
               const Worker& w) {
  if (attention.spec.in_blocks) {
    quantize_blocks(attention, attention.q_blocks, x + begin * s.ld, end - begin, false, s, w, w.q_scale, w.q);
    for (std::int64_t m = 0; m < end - begin; ++m) w.q_scale[m] *= attention.spec.scale;
    std::fill_n(w.q_zero, end - begin, kBlockOffset);
    return;
  }
  quantize_rows(attention, attention.q, x + begin * s.ld, s.ld, end - begin, s, w, w.q);
  for (std::int64_t m = 0; m < end - begin; ++m) {
    const std::size_t g = static_cast<std::size_t>(w.index[m]);
    w.q_zero[m] = attention.q.offset[g];
    w.q_scale[m] = attention.q.outer[g] * attention.spec.scale;
  }
}

void prepare_k(const Attention& attention, const float* x, const Problem& s, const Worker& w) {
  std::uint8_t* const bytes = reinterpret_cast<std::uint8_t*>(w.bytes);
  if (attention.spec.in_blocks) {
    quantize_blocks(attention, attention.k_blocks, x, s.tokens, false, s, w, w.k_scale, bytes);
  } else {
    quantize_rows(attention, attention.k, x, s.ld, s.tokens, s, w, bytes);
    for (std::int64_t m = 0; m < s.tokens; ++m) {
      w.k_scale[m] = attention.k.outer[static_cast<std::size_t>(w.index[m])];
    }
  }
  const std::int64_t padded = round_up(s.tokens, kPanel);
  std::fill(w.k_scale + s.tokens, w.k_scale + padded, 0.0f);
  pack_transposed(w.bytes, s.ld_head, s.head_dim, s.tokens, attention.k_format, w.k_panels);
  // A row of ones times k^T is the column sums.
  std::fill(w.ones, w.ones + s.ld_head * attention.path->row_multiple, std::uint8_t{1});
  attention.path->product(w.ones, s.ld_head, 1, attention.k_format.panels(w.k_panels, s.head_dim),
                          static_cast<int>(padded / kPanel), w.k_sum, padded);
}

// v in channels: into w.bytes, scales into w.v_scale.
void quantize_channels(const Attention& attention, const float* x, const Problem& s, const Worker& w) {
  const Stages& stages = *attention.path->stages;
  const GroupQuantizer& v = attention.v;
  const int rows = static_cast<int>(s.tokens), cols = static_cast<int>(s.head_dim);
  stages.channel_ranges(x, s.ld, rows, cols, w.lower, w.upper, true);
  stages.assign(w.lower, w.upper, cols, v.columns(), w.index);
  const std::int64_t padded = round_up(s.head_dim, kPanel);
  for (std::int64_t d = 0; d < padded; ++d) {
    const std::size_t g = d < s.head_dim ? static_cast<std::size_t>(w.index[d]) : 0;
    w.inverse[d] = v.inverse[g];
    w.low[d] = v.low[g];
    w.high[d] = v.high[g];
    w.v_scale[d] = v.outer[g];
  }
  const ChannelQuantizer quantizer = {w.inverse, w.low, w.high, nullptr, nullptr, 0};
  stages.quantize_channels(x, s.ld, rows, cols, quantizer, reinterpret_cast<std::uint8_t*>(w.bytes), s.ld_head);
}

void prepare_v(const Attention& attention, const float* x, const Problem& s, const Worker& w) {
  if (attention.spec.in_blocks) {
    // Every token gets the scale of the head; `lower` has room for them.
    quantize_blocks(attention, attention.v_blocks, x, s.tokens, true, s, w, w.lower,
                    reinterpret_cast<std::uint8_t*>(w.bytes));
    std::fill_n(w.v_scale, round_up(s.head_dim, kPanel), w.lower[0]);
  } else {
    quantize_channels(attention, x, s, w);
  }
  pack_rows(w.bytes, s.ld_head, nullptr, s.tokens, s.head_dim, attention.v_format, w.v_panels);
}

// Rows [m, m + rows) of this task, which start at row m of w.q.
void attend(const Attention& attention, std::int64_t m, int rows, const float* bias, float* y, const Problem& s,
            const Worker& w) {
  const Path& path = *attention.path;
  const Stages& stages = *path.stages;
  const int tokens = static_cast<int>(s.tokens);
  path.product(w.q + m * s.ld_head, s.ld_head, rows, attention.k_format.panels(w.k_panels, s.head_dim),
               static_cast<int>(s.ld_scores / kPanel), w.scores, s.ld_scores);
  stages.scores({w.scores, s.ld_scores, rows, tokens, w.q_zero + m, w.k_sum, w.q_scale + m, w.k_scale, bias, s.tokens});
  float* const p = reinterpret_cast<float*>(w.scores);
  stages.softmax(p, s.ld_scores, rows, tokens, w.lower, w.upper);
  stages.assign(w.lower, w.upper, rows, attention.p.columns(), w.index);
  stages.quantize_rows(p, s.ld_scores, rows, tokens, attention.p.rows.data(), w.index, w.levels, s.ld_levels);
  if (!attention.identity) {
    stages.map_bytes(w.levels, s.ld_levels, rows, tokens, attention.levels.data(), attention.spec.num_levels);
  }
  for (int i = 0; i < rows; ++i) w.p_scale[i] = attention.p.outer[static_cast<std::size_t>(w.index[i])];

  const std::ptrdiff_t ld_acc = round_up(s.head_dim, kPanel);
  path.product(w.levels, s.ld_levels, rows, attention.v_format.panels(w.v_panels, s.tokens),
               static_cast<int>(ld_acc / kPanel), w.acc, ld_acc);
  Epilogue e;
  e.acc = w.acc;
  e.ld_acc = ld_acc;
  e.rows = rows;
  e.cols = static_cast<int>(s.head_dim);
  e.outer = w.p_scale;
  e.w_scale = w.v_scale;
  e.y = y;
  e.ld_y = s.heads * s.head_dim;
  stages.epilogue(e);
}

}  // namespace

std::size_t attention_scratch(const Attention& attention, std::int64_t batch, std::int64_t tokens,
                              std::int64_t head_dim, int threads) {
  const Problem s = describe(attention, batch, tokens, head_dim, threads);
  return worker_bytes(attention, s) * static_cast<std::size_t>(std::max(threads, 1));
}

void run_attention(const Attention& attention, const AttentionCall& call, void* scratch, const Parallel& parallel) {
  const Problem s = describe(attention, call.batch, call.tokens, call.head_dim, parallel.threads);
  const std::size_t stride = worker_bytes(attention, s);
  const std::int64_t tasks = call.batch * s.heads * s.parts;
  const auto matrices = [&](std::int64_t task) {  // q of a task; k and v lie `width` floats further each
    return call.qkv + task / (s.heads * s.parts) * s.tokens * s.ld + task / s.parts % s.heads * s.head_dim;
  };
  run_tasks(parallel, tasks, [&](int worker, std::int64_t task) {
    Arena arena(static_cast<char*>(scratch) + stride * static_cast<std::size_t>(worker));
    Worker w;
    take_worker(arena, attention, s, &w);
    const std::int64_t b = task / (s.heads * s.parts), h = task / s.parts % s.heads;
    const Part part(s.tokens, s.block, s.parts, task % s.parts);
    const float* const q = matrices(task);
    const std::ptrdiff_t width = s.heads * s.head_dim;
    const float* bias = nullptr;
    if (call.bias != nullptr) {
      const std::int64_t matrix = b % call.bias_batch * call.bias_heads + (call.bias_heads == 1 ? 0 : h);
      bias = call.bias + matrix * s.tokens * s.tokens;
    }
    const auto prefetch_bias = [&](std::int64_t row) {
      if (bias == nullptr || row >= part.end) return;
      prefetch_rows(bias + row * s.tokens, s.tokens, std::min(s.block, part.end - row), s.tokens);
    };
    if (attention.path->enter != nullptr) attention.path->enter();
    prefetch_bias(part.begin);
    prefetch_rows(q + 2 * width, s.ld, s.tokens, s.head_dim);
    prepare_k(attention, q + width, s, w);
    prefetch_rows(q + part.begin * s.ld, s.ld, part.end - part.begin, s.head_dim);
    prepare_v(attention, q + 2 * width, s, w);
    prepare_q(attention, q, part.begin, part.end, s, w);
    const std::int64_t next = task + std::max(parallel.threads, 1);
    if (next < tasks) prefetch_rows(matrices(next) + width, s.ld, s.tokens, s.head_dim);
    for (std::int64_t m = part.begin; m < part.end; m += s.block) {
      const int rows = static_cast<int>(std::min(s.block, part.end - m));
      prefetch_bias(m + s.block);
      attend(attention, m - part.begin, rows, bias != nullptr ? bias + m * s.tokens : nullptr,
             call.y + (b * s.tokens + m) * width + h * s.head_dim, s, w);
    }
    if (attention.path->leave != nullptr) attention.path->leave();
  });
}

}  // namespace cpu
}  // namespace qcompiler
