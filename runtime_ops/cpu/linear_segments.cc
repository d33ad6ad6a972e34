// Linear layers with free scales per group of channels: the channels are sorted by group, and every group is an
// integer product of its own, added up in float.
//
// Three parallel steps, because each needs all of the one before: ranges of the channels; codes of all rows, permuted;
// columns. Weight rows are gathered panel by panel, into a buffer that stays in the cache while the rows pass by.
#include <algorithm>

#include "linear.h"

namespace qcompiler {
namespace cpu {
namespace {

// Scratch of one worker.
struct Worker {
  ChannelParameters channels;
  std::int32_t* add;      // [C] channel offset of the stored codes: the zero point
  RangeBuffers buffers;
  std::uint8_t* codes;    // [C padded] one row before the permutation
  std::uint8_t* ones;     // [depth] a row of ones: its product is the column sums
  std::uint8_t* panels;   // gathered panels of one block of columns
  std::int32_t* acc;      // [kBlockRows, kBlockCols]
  float* sum;             // [kBlockRows, kBlockCols]
  std::int32_t* correction;  // [groups][kBlockCols] zero point * column sum
};

// Where the groups of one instance lie in the sorted order.
struct Order {
  std::int32_t* channel;  // [depth] channel of every position, or -1
  std::int32_t* begin;    // [groups + 1] first position of every group
};

struct Layout {
  std::int64_t instances, rows, parts, groups;
  std::int64_t depth;      // upper bound of the padded positions of all groups
  std::ptrdiff_t lda;
  float *mean, *rstd;      // [instances * rows]
  float* row_norm;         // [instances * rows]
  float* ranges;           // [instances * parts][2][C padded]
  std::int32_t* channel;   // [instances][lda]
  std::int32_t* begin;     // [instances][groups + 1]
  std::uint8_t* a;         // [instances * rows, lda]
  char* workers;
  std::size_t worker_stride;

  Order order(std::int64_t instance) const { return {channel + instance * lda, begin + instance * (groups + 1)}; }
};

void take_worker(Arena& arena, const Linear& linear, const Layout& layout, Worker* w) {
  const std::ptrdiff_t channels = round_up(linear.channels, kPanel);
  w->channels.take(arena, linear.channels);
  w->add = arena.take<std::int32_t>(channels);
  w->buffers.take(arena, linear);
  w->codes = arena.take<std::uint8_t>(channels);
  w->ones = arena.take<std::uint8_t>(layout.lda);
  w->panels = arena.take<std::uint8_t>(linear.format.stride(layout.depth) * kBlockPanels);
  w->acc = arena.take<std::int32_t>(kBlockRows * kBlockCols);
  w->sum = arena.take<float>(kBlockRows * kBlockCols);
  w->correction = arena.take<std::int32_t>(layout.groups * kBlockCols);
}

std::size_t lay_out(const Linear& linear, std::int64_t batch, std::int64_t rows, int threads, void* memory,
                    Layout* layout) {
  const std::int64_t workers = std::max(threads, 1);
  layout->instances = batch;
  layout->rows = rows;
  layout->parts = std::min((workers + batch - 1) / batch, rows);
  layout->groups = linear.quantizer.count;
  // Each group that is not empty may end with a partial step.
  const std::int64_t used_groups = std::min(layout->groups, linear.channels);
  layout->depth = linear.channels + used_groups * (linear.format.depth_multiple - 1);
  layout->lda = left_stride(layout->depth);

  Arena arena(memory);
  const std::int64_t tasks = batch * layout->parts;
  layout->mean = linear.norm ? arena.take<float>(round_up(batch * rows, kPanel)) : nullptr;
  layout->rstd = linear.norm ? arena.take<float>(round_up(batch * rows, kPanel)) : nullptr;
  layout->row_norm = linear.row_norm ? arena.take<float>(round_up(batch * rows, kPanel)) : nullptr;
  layout->ranges = arena.take<float>(tasks * 2 * round_up(linear.channels, kPanel));
  layout->channel = arena.take<std::int32_t>(batch * layout->lda);
  layout->begin = arena.take<std::int32_t>(batch * (layout->groups + 1));
  layout->a = arena.take<std::uint8_t>(batch * rows * layout->lda);
  const std::size_t before = arena.used();
  layout->workers = memory == nullptr ? nullptr : static_cast<char*>(memory) + before;
  Worker worker;
  take_worker(arena, linear, *layout, &worker);
  layout->worker_stride = arena.used() - before;
  return before + layout->worker_stride * static_cast<std::size_t>(workers);
}

Worker worker_at(const Linear& linear, const Layout& layout, int index) {
  Arena arena(layout.workers + layout.worker_stride * static_cast<std::size_t>(index));
  Worker worker;
  take_worker(arena, linear, layout, &worker);
  return worker;
}

// Counting sort of the channels by group; groups start at multiples of `step`.
void sort_channels(const std::int32_t* group, std::int64_t channels, std::int64_t groups, int step, std::ptrdiff_t lda,
                   const Order& order) {
  std::fill(order.begin, order.begin + groups + 1, 0);
  for (std::int64_t c = 0; c < channels; ++c) ++order.begin[group[c] + 1];
  for (std::int64_t g = 0; g < groups; ++g) {
    order.begin[g + 1] = order.begin[g] + static_cast<std::int32_t>(round_up(order.begin[g + 1], step));
  }
  std::fill(order.channel, order.channel + lda, -1);
  for (std::int64_t c = 0; c < channels; ++c) {
    order.channel[order.begin[group[c]]++] = static_cast<std::int32_t>(c);
  }
  // The starts have moved to the ends of the unpadded groups: move them back.
  for (std::int64_t g = groups; g > 0; --g) {
    order.begin[g] = static_cast<std::int32_t>(round_up(order.begin[g - 1], step));
  }
  order.begin[0] = 0;
}

// Codes of rows [begin, end) of one instance, in sorted order.
void quantize_rows(const Linear& linear, const Layout& layout, std::int64_t instance, std::int64_t begin,
                   std::int64_t end, const float* x, const Order& order, const Worker& w) {
  const Stages& stages = *linear.path->stages;
  const int cols = static_cast<int>(linear.channels);
  const std::int64_t channels = round_up(linear.channels, kPanel);
  for (std::int64_t c = 0; c < channels; ++c) {
    w.add[c] = c < linear.channels ? linear.quantizer.offset[static_cast<std::size_t>(w.channels.index[c])] : 0;
  }
  const ChannelQuantizer quantizer = {w.channels.inverse, w.channels.low, w.channels.high, nullptr, w.add, 0};
  const std::int32_t last = order.begin[layout.groups];
  for (std::int64_t m = begin; m < end; ++m) {
    const std::int64_t row = instance * layout.rows + m;
    const PreparedRows prepared =
        prepare_rows(linear, x + row * linear.channels, 1, linear.norm ? layout.mean + row : nullptr,
                     linear.norm ? layout.rstd + row : nullptr, w.buffers);
    if (linear.row_norm) layout.row_norm[row] = w.buffers.row_norm[0];
    stages.quantize_channels(prepared.data, linear.channels, 1, cols, quantizer, w.codes, channels);
    std::uint8_t* const out = layout.a + row * layout.lda;
    // Padding meets zero weights, so any code will do.
    for (std::int32_t i = 0; i < last; ++i) out[i] = w.codes[order.channel[i] < 0 ? 0 : order.channel[i]];
  }
}

// Gathers the weight rows of `wide` panels from panel `first` on and computes the corrections of every group.
Panels gather(const Linear& linear, const Layout& layout, const Order& order, std::int64_t first, int wide,
              const Worker& w) {
  const std::int32_t depth = order.begin[layout.groups];
  const Panels panels = linear.format.panels(w.panels, depth);
  for (int p = 0; p < wide; ++p) {
    const std::int8_t* const stripe = linear.weight.data() + (first + p) * linear.channels * kPanel;
    pack_rows(stripe, kPanel, order.channel, depth, kPanel, linear.format, w.panels + p * panels.stride);
  }
  return panels;
}

// The panels of one group alone.
Panels segment(const Panels& panels, std::int32_t begin, std::int32_t end) {
  Panels part = panels;
  part.data = static_cast<const char*>(panels.data) + begin * kPanel * (panels.wide ? 2 : 1);
  part.depth = end - begin;
  return part;
}

void correct(const Linear& linear, const Layout& layout, const Order& order, const Panels& panels, int wide,
             const Worker& w) {
  std::fill(w.ones, w.ones + layout.lda, std::uint8_t{1});
  for (std::int64_t g = 0; g < layout.groups; ++g) {
    const std::int32_t begin = order.begin[g], end = order.begin[g + 1];
    if (begin == end) continue;
    std::int32_t* const out = w.correction + g * kBlockCols;
    linear.path->product(w.ones, layout.lda, 1, segment(panels, begin, end), wide, out, kBlockCols);
    const std::int32_t zero = linear.quantizer.offset[static_cast<std::size_t>(g)];
    for (int n = 0; n < wide * kPanel; ++n) out[n] *= zero;
  }
}

void multiply_panels(const Linear& linear, const LinearCall& call, const Layout& layout, std::int64_t instance,
                     std::int64_t first, int wide, const Worker& w) {
  const Order order = layout.order(instance);
  const Panels panels = gather(linear, layout, order, first, wide, w);
  correct(linear, layout, order, panels, wide, w);
  const std::int64_t column = first * kPanel;
  const std::int64_t step = block_rows(*linear.path);
  for (std::int64_t m = 0; m < layout.rows; m += step) {
    const int rows = static_cast<int>(std::min(step, layout.rows - m));
    const std::int64_t row = instance * layout.rows + m;
    bool fresh = true;
    for (std::int64_t g = 0; g < layout.groups; ++g) {
      const std::int32_t begin = order.begin[g], end = order.begin[g + 1];
      if (begin == end) continue;  // adds nothing
      linear.path->product(layout.a + row * layout.lda + begin, layout.lda, rows, segment(panels, begin, end), wide,
                           w.acc, kBlockCols);
      linear.path->stages->add_segment(w.acc, kBlockCols, rows, wide * kPanel, w.correction + g * kBlockCols,
                                       linear.quantizer.scale[static_cast<std::size_t>(g)], fresh, w.sum);
      fresh = false;
    }
    Epilogue e;
    e.sum = w.sum;
    e.ld_acc = kBlockCols;
    e.rows = rows;
    e.cols = static_cast<int>(std::min<std::int64_t>(kBlockCols, linear.outputs - column));
    e.outer = linear.row_norm ? layout.row_norm + row : nullptr;
    e.w_scale = linear.w_scale.data() + column;
    e.bias = linear.bias.data() + column;
    e.gelu = linear.gelu;
    const std::int64_t at = row * linear.outputs + column;
    e.residual = call.residual != nullptr ? call.residual + at : nullptr;
    e.y = call.y + at;
    e.ld_y = linear.outputs;
    linear.path->stages->epilogue(e);
  }
}

}  // namespace

std::size_t segments_scratch(const Linear& linear, std::int64_t batch, std::int64_t rows, int threads) {
  Layout layout;
  return lay_out(linear, batch, rows, threads, nullptr, &layout);
}

void run_segments(const Linear& linear, const LinearCall& call, void* scratch, const Parallel& parallel) {
  Layout layout;
  lay_out(linear, call.batch, call.rows, parallel.threads, scratch, &layout);
  const std::int64_t parts = layout.parts;
  const std::int64_t tasks = layout.instances * parts;
  const std::int64_t padded = round_up(linear.channels, kPanel);

  run_tasks(parallel, tasks, [&](int worker, std::int64_t task) {
    const Part part(layout.rows, 1, parts, task % parts);
    const std::int64_t row = task / parts * layout.rows + part.begin;
    float* const ranges = layout.ranges + task * 2 * padded;
    measure_channels(linear, call.x + row * linear.channels, part.end - part.begin,
                     linear.norm ? layout.mean + row : nullptr, linear.norm ? layout.rstd + row : nullptr,
                     worker_at(linear, layout, worker).buffers, ranges, ranges + padded);
  });

  run_tasks(parallel, layout.instances, [&](int worker, std::int64_t instance) {
    const Worker w = worker_at(linear, layout, worker);
    w.channels.join(linear, layout.ranges + instance * parts * 2 * padded, parts);
    w.channels.assign(linear);
    const Order order = layout.order(instance);
    sort_channels(w.channels.index, linear.channels, layout.groups, linear.format.depth_multiple, layout.lda, order);
    quantize_rows(linear, layout, instance, 0, layout.rows, call.x, order, w);
  });

  const std::int64_t blocks = (linear.panel_count() + kBlockPanels - 1) / kBlockPanels;
  const std::int64_t column_parts = std::min(parts, blocks);
  run_tasks(parallel, layout.instances * column_parts, [&](int worker, std::int64_t task) {
    const Worker w = worker_at(linear, layout, worker);
    const Part part(linear.panel_count(), kBlockPanels, column_parts, task % column_parts);
    if (linear.path->enter != nullptr) linear.path->enter();
    for (std::int64_t p = part.begin; p < part.end; p += kBlockPanels) {
      const int wide = static_cast<int>(std::min<std::int64_t>(kBlockPanels, part.end - p));
      multiply_panels(linear, call, layout, task / column_parts, p, wide, w);
    }
    if (linear.path->leave != nullptr) linear.path->leave();
  });
}

}  // namespace cpu
}  // namespace qcompiler
