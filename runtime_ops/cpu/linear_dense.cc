// Linear layers whose whole reduction is one integer product: rows, channels with integer multipliers, and blocks.
#include <algorithm>

#include "ahead.h"
#include "linear.h"

namespace qcompiler {
namespace cpu {
namespace {

// Scratch of one worker.
struct Worker {
  std::uint8_t* a;     // [chunk, lda] left operand
  std::int32_t* acc;   // [kBlockRows, kBlockCols]
  std::int32_t* zero;  // [chunk] what is subtracted per column sum, where it differs
  float* outer;        // [chunk]
  float *lower, *upper;  // [kNormRows] row ranges
  std::int32_t* index;   // [kNormRows]
  float *mean, *rstd;    // [kNormRows], when rows are independent
  float* blocks;         // scratch of quantize_blocks
  RangeBuffers buffers;
  ChannelParameters channels;
};

struct Layout {
  std::int64_t instances, rows;  // rows of one instance
  std::int64_t parts;            // every instance is cut into this many tasks
  std::int64_t chunk;
  std::ptrdiff_t lda;
  Worker worker[1];  // of worker 0; worker w is `worker_stride` bytes further
  std::size_t worker_stride;
  float *mean, *rstd;  // [instances * rows], channels mode with LayerNormalization
  float* ranges;       // [instances * parts][2][C padded], channels mode
};

std::int64_t worker_count(std::int64_t tasks, int threads) {
  return std::min<std::int64_t>(tasks, std::max(threads, 1));
}

void take_worker(Arena& arena, const Linear& linear, const Layout& layout, Worker* w) {
  const std::ptrdiff_t chunk = round_up(layout.chunk, kBlockRows);
  w->a = arena.take<std::uint8_t>(chunk * layout.lda);
  w->acc = arena.take<std::int32_t>(kBlockRows * kBlockCols);
  w->zero = arena.take<std::int32_t>(chunk);
  w->outer = arena.take<float>(chunk);
  w->lower = arena.take<float>(kNormRows);
  w->upper = arena.take<float>(kNormRows);
  w->index = arena.take<std::int32_t>(kNormRows);
  w->mean = arena.take<float>(kNormRows);
  w->rstd = arena.take<float>(kNormRows);
  const bool in_blocks = linear.grouping == Grouping::kBlocks;
  w->blocks = arena.take<float>(in_blocks ? block_work(static_cast<int>(linear.channels / linear.blocks.block)) : 0);
  w->buffers.take(arena, linear);
  if (linear.grouping == Grouping::kChannels) w->channels.take(arena, linear.channels);
}

// Fills `layout` over `memory`; returns the bytes used.
std::size_t lay_out(const Linear& linear, std::int64_t batch, std::int64_t rows, int threads, void* memory,
                    Layout* layout) {
  layout->instances = linear.by_rows() ? 1 : batch;
  layout->rows = linear.by_rows() ? batch * rows : rows;
  const std::int64_t blocks = (layout->rows + linear.path->row_block - 1) / linear.path->row_block;
  const std::int64_t wanted = (std::max(threads, 1) + layout->instances - 1) / layout->instances;
  layout->parts = std::min(wanted, blocks);
  layout->lda = left_stride(linear.channels);
  const std::int64_t part_rows = (blocks + layout->parts - 1) / layout->parts * linear.path->row_block;
  layout->chunk = chunk_rows(*linear.path, std::min(part_rows, layout->rows), layout->lda);
  const std::int64_t tasks = layout->instances * layout->parts;

  Arena arena(memory);
  const bool by_channels = linear.grouping == Grouping::kChannels;
  const std::int64_t all_rows = round_up(layout->instances * layout->rows, kPanel);
  layout->mean = by_channels && linear.norm ? arena.take<float>(all_rows) : nullptr;
  layout->rstd = by_channels && linear.norm ? arena.take<float>(all_rows) : nullptr;
  layout->ranges = by_channels ? arena.take<float>(tasks * 2 * round_up(linear.channels, kPanel)) : nullptr;
  const std::size_t before = arena.used();
  take_worker(arena, linear, *layout, layout->worker);
  layout->worker_stride = arena.used() - before;
  return before + layout->worker_stride * static_cast<std::size_t>(worker_count(tasks, threads));
}

Worker worker_at(const Linear& linear, const Layout& layout, int index) {
  char* const first = reinterpret_cast<char*>(layout.worker[0].a);
  Arena arena(first + layout.worker_stride * static_cast<std::size_t>(index));
  Worker worker;
  take_worker(arena, linear, layout, &worker);
  return worker;
}

// Quantizes rows [begin, begin + count) of one instance into w.a.
void quantize_chunk(const Linear& linear, const Layout& layout, std::int64_t instance, std::int64_t begin,
                    std::int64_t count, const float* x, const Worker& w) {
  const Stages& stages = *linear.path->stages;
  const GroupQuantizer& q = linear.quantizer;
  const int cols = static_cast<int>(linear.channels);
  for (std::int64_t m = 0; m < count; m += kNormRows) {
    const int rows = static_cast<int>(std::min<std::int64_t>(kNormRows, count - m));
    const std::int64_t row = instance * layout.rows + begin + m;
    const float* const source = x + row * linear.channels;
    const float *mean = w.mean, *rstd = w.rstd;
    if (linear.norm && linear.by_rows()) {
      stages.row_stats(source, linear.channels, rows, cols, linear.epsilon, w.mean, w.rstd);
    } else if (linear.norm) {
      // In channels mode the statistics are known from the pass that measured the channels.
      mean = layout.mean + row;
      rstd = layout.rstd + row;
    }
    const PreparedRows prepared = prepare_rows(linear, source, rows, mean, rstd, w.buffers);
    const float* const block = prepared.data;
    const std::ptrdiff_t ld = prepared.ld;
    std::uint8_t* const out = w.a + m * layout.lda;
    if (linear.grouping == Grouping::kBlocks) {
      stages.quantize_blocks(block, ld, rows, cols, linear.blocks, false, w.blocks, w.outer + m, out,
                             layout.lda);
    } else if (linear.grouping == Grouping::kRows) {
      stages.row_ranges(block, ld, rows, cols, w.lower, w.upper);
      stages.assign(w.lower, w.upper, rows, q.columns(), w.index);
      stages.quantize_rows(block, ld, rows, cols, q.rows.data(), w.index, out, layout.lda);
      for (int i = 0; i < rows; ++i) {
        w.zero[m + i] = q.offset[static_cast<std::size_t>(w.index[i])];
        w.outer[m + i] = q.outer[static_cast<std::size_t>(w.index[i])];
      }
    } else {
      const ChannelQuantizer channels = {w.channels.inverse, w.channels.low, w.channels.high, w.channels.multiplier,
                                         nullptr, q.offset[0]};
      stages.quantize_channels(block, ld, rows, cols, channels, out, layout.lda);
      std::fill_n(w.outer + m, rows, q.outer[0]);
    }
    if (linear.row_norm) {
      for (int i = 0; i < rows; ++i) w.outer[m + i] *= w.buffers.row_norm[i];
    }
  }
}

// What makes y of the accumulators of rows m to m + rows of this chunk; `at` is where they begin in y.
Epilogue epilogue_of(const Linear& linear, const LinearCall& call, const Worker& w, std::int64_t m, int rows,
                     std::int64_t column, int cols, std::int64_t at) {
  Epilogue e;
  e.acc = w.acc;
  e.ld_acc = kBlockCols;
  e.rows = rows;
  e.cols = cols;
  e.zero = linear.zero_by_row() ? w.zero + m : nullptr;
  e.column_sum = linear.column_sum.data() + column;
  e.outer = w.outer + m;
  e.w_scale = linear.w_scale.data() + column;
  e.bias = linear.bias.data() + column;
  e.gelu = linear.gelu;
  e.residual = call.residual != nullptr ? call.residual + at : nullptr;
  e.y = call.y + at;
  e.ld_y = linear.outputs;
  return e;
}

// All columns for the rows in w.a, block by block: product into w.acc, epilogue out of it.
void multiply_chunk(const Linear& linear, const LinearCall& call, const Layout& layout, std::int64_t first_row,
                    std::int64_t count, const Worker& w) {
  const Path& path = *linear.path;
  Panels all = linear.format.panels(linear.weight.data(), linear.channels);
  const std::int64_t panels = linear.panel_count();
  const std::int64_t step = block_rows(path);
  // Rows of one product: few, so that what is asked for with each of them comes in time. Where a product takes many rows
  // at once, those of a block together find the weights in the first-level cache.
  const int stride = path.row_block < kPanel ? path.row_block : static_cast<int>(step);
  for (std::int64_t p = 0; p < panels; p += kBlockPanels) {
    const int wide = static_cast<int>(std::min<std::int64_t>(kBlockPanels, panels - p));
    const std::int64_t column = p * kPanel;
    Panels block = all;
    block.data = static_cast<const char*>(all.data) + p * all.stride;
    if (!linear.windows.empty()) block.windows = linear.windows.data() + p * (all.depth / 4);
    const std::int64_t next = std::min(p + kBlockPanels, panels);
    Ahead ahead(static_cast<const char*>(all.data) + next * all.stride,
                std::min<std::int64_t>(kBlockPanels, panels - next) * all.stride,
                (count + stride - 1) / stride);
    for (std::int64_t m = 0; m < count; m += step) {
      const int rows = static_cast<int>(std::min(step, count - m));
      const int cols = static_cast<int>(std::min<std::int64_t>(kBlockCols, linear.outputs - column));
      const std::int64_t at = (first_row + m) * linear.outputs + column;
      for (int i = 0; i < rows; i += stride) {
        const int some = std::min(stride, rows - i);
        ahead.weights();
        Ahead::rows(call.y + at + i * linear.outputs, linear.outputs, some, cols);
        if (call.residual != nullptr) Ahead::rows(call.residual + at + i * linear.outputs, linear.outputs, some, cols);
        path.product(w.a + (m + i) * layout.lda, layout.lda, some, block, wide, w.acc + i * kBlockCols, kBlockCols);
      }
      path.stages->epilogue(epilogue_of(linear, call, w, m, rows, column, cols, at));
    }
  }
}

}  // namespace

std::size_t dense_scratch(const Linear& linear, std::int64_t batch, std::int64_t rows, int threads) {
  Layout layout;
  return lay_out(linear, batch, rows, threads, nullptr, &layout);
}

void run_dense(const Linear& linear, const LinearCall& call, void* scratch, const Parallel& parallel) {
  Layout layout;
  lay_out(linear, call.batch, call.rows, parallel.threads, scratch, &layout);
  const std::int64_t tasks = layout.instances * layout.parts;
  const bool by_channels = linear.grouping == Grouping::kChannels;
  const std::int64_t padded = round_up(linear.channels, kPanel);

  const auto measure = [&](int worker, std::int64_t task) {
    const Part part(layout.rows, linear.path->row_block, layout.parts, task % layout.parts);
    const std::int64_t row = task / layout.parts * layout.rows + part.begin;
    float* const ranges = layout.ranges + task * 2 * padded;
    measure_channels(linear, call.x + row * linear.channels, part.end - part.begin,
                     linear.norm ? layout.mean + row : nullptr, linear.norm ? layout.rstd + row : nullptr,
                     worker_at(linear, layout, worker).buffers, ranges, ranges + padded);
  };
  const auto multiply = [&](int worker, std::int64_t task) {
    const std::int64_t instance = task / layout.parts;
    const Part part(layout.rows, linear.path->row_block, layout.parts, task % layout.parts);
    Worker w = worker_at(linear, layout, worker);
    if (by_channels) {
      w.channels.join(linear, layout.ranges + instance * layout.parts * 2 * padded, layout.parts);
      w.channels.assign(linear);
    }
    if (linear.path->enter != nullptr) linear.path->enter();
    for (std::int64_t m = part.begin; m < part.end; m += layout.chunk) {
      const std::int64_t count = std::min(layout.chunk, part.end - m);
      quantize_chunk(linear, layout, instance, m, count, call.x, w);
      multiply_chunk(linear, call, layout, instance * layout.rows + m, count, w);
    }
    if (linear.path->leave != nullptr) linear.path->leave();
  };

  if (by_channels && layout.parts == 1) {
    // One task has all rows of its instance: measure and multiply without meeting the others in between.
    run_tasks(parallel, tasks, [&](int worker, std::int64_t task) {
      measure(worker, task);
      multiply(worker, task);
    });
    return;
  }
  if (by_channels) run_tasks(parallel, tasks, measure);
  run_tasks(parallel, tasks, multiply);
}

}  // namespace cpu
}  // namespace qcompiler
