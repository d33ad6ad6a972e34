// Linear layers: constants on the device, choice of kernels, and their order on the stream.
#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "../cpu/checks.h"
#include "../cpu/weights.h"
#include "channels.cuh"
#include "interface.h"
#include "product.cuh"
#include "quantizer.h"
#include "rows.cuh"
#include "segments.cuh"

namespace qcompiler {
namespace cuda {

struct Linear {
  WorkspaceUser workspace;
  Constants constants;
  int device = 0;
  DeviceLimits limits;

  int channels = 0, outputs = 0;
  int columns = 0;  // outputs padded to what the largest tile takes
  int stride = 0;   // bytes of a row of operands
  cpu::Grouping grouping = cpu::Grouping::kRows;
  cpu::Gelu gelu = cpu::Gelu::kNone;
  float epsilon = 0.0f;
  int rotate = 1;
  bool norm = false, normalize = false;
  cpu::BlockQuantizer blocks = {};
  TableConstants table;
  float outer = 1.0f;  // of all groups of channels

  std::size_t weight = 0, column_sum = 0, w_scale = 0, bias = 0, gamma = 0, beta = 0;

  bool by_rows() const { return grouping == cpu::Grouping::kRows || grouping == cpu::Grouping::kBlocks; }
  bool prepares() const { return norm || normalize || rotate > 1; }
};

namespace {

using LargeTile = TileShape<128, 128, 64, 64, 4>;
using MediumTile = TileShape<64, 64, 32, 32, 4>;
using SmallTile = TileShape<32, 64, 16, 32, 4>;
constexpr int kColumnPad = LargeTile::kColumns;

constexpr std::size_t kRowsShared = 48 * 1024;  // of a block of rows, where a row allows it
constexpr int kMostRowWarps = 4;

// ---- Creation ----------------------------------------------------------------------------------------------------

// The weights of an output one after the other, padded with zeros.
std::vector<signed char> transposed(const cpu::WeightOperands& operands, const Linear& linear) {
  const std::size_t stride = static_cast<std::size_t>(linear.stride), outputs = static_cast<std::size_t>(linear.outputs);
  std::vector<signed char> out(static_cast<std::size_t>(linear.columns) * stride, 0);
  for (std::size_t c = 0; c < static_cast<std::size_t>(linear.channels); ++c) {
    for (std::size_t d = 0; d < outputs; ++d) out[d * stride + c] = operands.values[c * outputs + d];
  }
  return out;
}

std::vector<signed char> padded(const cpu::WeightOperands& operands, const Linear& linear) {
  const std::size_t columns = static_cast<std::size_t>(linear.columns), outputs = static_cast<std::size_t>(linear.outputs);
  std::vector<signed char> out(static_cast<std::size_t>(linear.channels) * columns, 0);
  for (std::size_t c = 0; c < static_cast<std::size_t>(linear.channels); ++c) {
    std::copy_n(operands.values.begin() + static_cast<std::ptrdiff_t>(c * outputs), outputs,
                out.begin() + static_cast<std::ptrdiff_t>(c * columns));
  }
  return out;
}

Status create(const cpu::LinearSpec& spec, Linear* linear) {
  Status status = cpu::check_linear(spec);
  if (status != nullptr) return status;
  linear->channels = static_cast<int>(spec.channels);
  linear->outputs = static_cast<int>(spec.outputs);
  linear->columns = static_cast<int>(cpu::round_up(spec.outputs, kColumnPad));
  linear->grouping = spec.grouping;
  linear->gelu = spec.gelu;
  linear->epsilon = spec.epsilon;
  linear->rotate = static_cast<int>(spec.rotate);
  linear->norm = spec.gamma != nullptr;
  linear->normalize = spec.normalize;

  cpu::GroupQuantizer quantizer;
  if (spec.grouping == cpu::Grouping::kBlocks) {
    status = cpu::prepare_blocks(spec.blocks(), cpu::Operand::kSigned, "linear input", &linear->blocks);
    quantizer.max_magnitude = cpu::kBlockOffset;
  } else {
    const bool multiples = spec.grouping == cpu::Grouping::kChannels;
    status = quantizer.prepare(spec.groups, spec.bits, multiples ? cpu::Operand::kMultiple : cpu::Operand::kCode,
                               "linear input");
  }
  if (status != nullptr) return status;
  cpu::WeightOperands operands;
  if ((status = cpu::weight_operands(spec, &operands)) != nullptr) return status;
  if ((status = cpu::check_accumulator(spec, quantizer.max_magnitude, operands.largest)) != nullptr) return status;

  Constants& constants = linear->constants;
  if (spec.grouping != cpu::Grouping::kBlocks) {
    linear->table.add(quantizer, &constants);
    linear->outer = quantizer.outer[0];
  }
  const std::size_t outputs = static_cast<std::size_t>(linear->outputs), columns = static_cast<std::size_t>(linear->columns);
  if (spec.grouping == cpu::Grouping::kSegments) {
    linear->stride = static_cast<int>(cpu::round_up(sorted_depth(spec.channels, quantizer.count), kTileDepth));
    linear->weight = constants.add(padded(operands, *linear));
  } else {
    linear->stride = static_cast<int>(cpu::round_up(spec.channels, kTileDepth));
    linear->weight = constants.add(transposed(operands, *linear));
  }
  linear->column_sum = constants.add(operands.column_sum.data(), outputs, columns);
  linear->w_scale = constants.add(spec.w_scale, outputs, columns);
  linear->bias = constants.add(spec.bias, spec.bias != nullptr ? outputs : 0, columns);
  if (linear->norm) {
    const std::size_t channels = static_cast<std::size_t>(linear->channels);
    linear->gamma = constants.add(spec.gamma, channels, channels);
    linear->beta = constants.add(spec.beta, spec.beta != nullptr ? channels : 0, channels);
  }
  if ((status = launch_status("device", cudaGetDevice(&linear->device))) != nullptr) return status;
  if ((status = DeviceLimits::read(linear->device, &linear->limits)) != nullptr) return status;
  return constants.upload();
}

// ---- Rows --------------------------------------------------------------------------------------------------------

// How the rows kernel is launched.
struct RowsLaunch {
  int warps = 1;
  std::size_t shared = 0;  // 0: rows lie in buffers of their own
  long long blocks = 1;
};

RowsLaunch plan_rows(const Linear& linear, long long rows, int buffer_floats) {
  RowsLaunch plan;
  const std::size_t one = static_cast<std::size_t>(buffer_floats) * sizeof(float);
  plan.warps = kMostRowWarps;
  while (plan.warps > 1 && one * static_cast<std::size_t>(plan.warps) > kRowsShared) plan.warps /= 2;
  plan.blocks = (rows + plan.warps - 1) / plan.warps;
  if (one * static_cast<std::size_t>(plan.warps) <= linear.limits.shared_bytes) {
    plan.shared = one * static_cast<std::size_t>(plan.warps);
    plan.blocks = std::min(plan.blocks, 1LL << 30);
  } else {
    plan.warps = 1;
    plan.blocks = std::min(rows, 8LL * linear.limits.processors);
  }
  return plan;
}

template <typename T>
Status launch_rows(const Rows& rows, const T* x, const RowsLaunch& plan, cudaStream_t stream) {
  const bool in_fours = rows.channels % 4 == 0 && aligned_in_fours(x) &&
                        (rows.use != RowUse::kBlocks || rows.blocks.block % 4 == 0);
  const auto kernel = in_fours ? (plan.shared > 0 ? quantize_rows<4, true, T> : quantize_rows<4, false, T>)
                               : (plan.shared > 0 ? quantize_rows<1, true, T> : quantize_rows<1, false, T>);
  return launch("linear input", kernel, dim3(static_cast<unsigned>(plan.blocks)), plan.warps * kWarp, plan.shared,
                stream, rows, x);
}

// ---- Products ----------------------------------------------------------------------------------------------------

template <typename Shape>
long long tiles(const Product& p) {
  return (p.epilogue.rows + Shape::kRows - 1) / Shape::kRows *
         ((p.epilogue.columns + Shape::kColumns - 1) / Shape::kColumns);
}

template <typename Shape, typename T>
Status launch_tiles(const Product& p, const Output<T>& out, cudaStream_t stream) {
  const auto kernel = p.epilogue.zero != nullptr ? multiply<true, Shape, T> : multiply<false, Shape, T>;
  return launch("linear product", kernel, dim3(static_cast<unsigned>(tiles<Shape>(p))), Shape::kThreads,
                static_cast<std::size_t>(Shape::kSharedBytes), stream, p, out);
}

// Large tiles read least, but every processor should have one.
template <typename T>
Status launch_product(const Linear& linear, const Product& p, const Output<T>& out, cudaStream_t stream) {
  if (tiles<LargeTile>(p) >= linear.limits.processors) return launch_tiles<LargeTile>(p, out, stream);
  if (2 * tiles<MediumTile>(p) >= linear.limits.processors) return launch_tiles<MediumTile>(p, out, stream);
  return launch_tiles<SmallTile>(p, out, stream);
}

// ---- A call ------------------------------------------------------------------------------------------------------

// Scratch memory of one call.
struct Scratch {
  unsigned char* operand;
  float *outer, *prepared, *norm, *ranges, *buffers;
  int *zero, *index, *order, *begin;
  int parts = 1;
};

template <typename T>
std::size_t lay_out(const Linear& linear, const cpu::LinearCallOf<T>& call, const RowsLaunch& plan, int buffer_floats,
                    void* memory, Scratch* s) {
  cpu::Arena arena(memory);
  const std::ptrdiff_t rows = call.batch * call.rows, channels = linear.channels;
  s->operand = arena.take<unsigned char>(rows * linear.stride);
  s->outer = arena.take<float>(rows);
  s->zero = arena.take<int>(linear.grouping == cpu::Grouping::kRows ? rows : 0);
  s->buffers = arena.take<float>(plan.shared > 0 ? 0 : plan.blocks * plan.warps * buffer_floats);
  if (linear.by_rows()) return arena.used();
  s->prepared = arena.take<float>(linear.prepares() ? rows * channels : 0);
  s->norm = arena.take<float>(linear.prepares() ? rows : 0);
  // Enough blocks for all processors, and enough rows for each to be worth it.
  const std::ptrdiff_t wanted = (4 * linear.limits.processors + call.batch - 1) / call.batch;
  s->parts = static_cast<int>(std::max<std::ptrdiff_t>(1, std::min<std::ptrdiff_t>(wanted, call.rows / 8)));
  s->ranges = arena.take<float>(call.batch * s->parts * 2 * channels);
  s->index = arena.take<int>(call.batch * channels);
  if (linear.grouping == cpu::Grouping::kSegments) {
    s->order = arena.take<int>(call.batch * linear.stride);
    s->begin = arena.take<int>(call.batch * (linear.table.count + 1));
  } else {
    s->order = s->begin = nullptr;
  }
  return arena.used();
}

// T: of prepared rows, float; of the activations where nothing is to prepare.
template <typename T>
Status quantize_by_channels(const Linear& linear, const T* x, std::int64_t batch, std::int64_t rows, const Scratch& s,
                            cudaStream_t stream) {
  Channels p = {};
  p.norm = linear.prepares() ? s.norm : nullptr;
  p.instances = batch;
  p.rows = static_cast<int>(rows);
  p.channels = linear.channels;
  p.groups = linear.table.bounds(linear.constants);
  p.steps = linear.constants.at<Step>(linear.table.steps);
  p.zero_points = linear.constants.at<int>(linear.table.zero_points);
  p.outer = linear.grouping == cpu::Grouping::kSegments ? 1.0f : linear.outer;
  p.parts = s.parts;
  p.ranges = s.ranges;
  p.index = s.index;
  p.order = s.order;
  p.begin = s.begin;
  p.operand = s.operand;
  p.stride = linear.stride;
  p.row_outer = s.outer;

  const unsigned tiles = static_cast<unsigned>((linear.channels + kRangeThreads - 1) / kRangeThreads);
  const dim3 grid(static_cast<unsigned>(batch * s.parts), std::min(tiles, 1024u));
  Status status = launch("channel ranges", channel_ranges<T>, grid, kRangeThreads, 0, stream, p, x);
  if (status != nullptr) return status;
  const auto blocks = [](long long items, int per_block) {
    return dim3(static_cast<unsigned>(std::min((items + per_block - 1) / per_block, 1LL << 30)));
  };
  status = launch("channel groups", assign_channels, blocks(batch * linear.channels, kRangeThreads), kRangeThreads, 0,
                  stream, p);
  if (status != nullptr) return status;
  if (p.order != nullptr) {
    status = launch("channel order", sort_channels, dim3(static_cast<unsigned>(batch)), kWarp, 0, stream, p);
    if (status != nullptr) return status;
  }
  return launch("linear input", quantize_channels<T>, blocks(batch * rows * (linear.stride / 4), 256), 256, 0, stream, p,
                x);
}

Epilogue epilogue_of(const Linear& linear, std::int64_t rows, const Scratch& s) {
  Epilogue e = {};
  e.outer = s.outer;
  e.zero = linear.grouping == cpu::Grouping::kRows ? s.zero : nullptr;
  e.column_sum = linear.constants.at<int>(linear.column_sum);
  e.w_scale = linear.constants.at<float>(linear.w_scale);
  e.bias = linear.constants.at<float>(linear.bias);
  e.rows = rows;
  e.columns = linear.outputs;
  e.gelu = linear.gelu;
  return e;
}

template <typename T>
Output<T> output_of(const Linear& linear, const cpu::LinearCallOf<T>& call) {
  const bool in_fours = linear.outputs % 4 == 0 && aligned_in_fours(call.y) && aligned_in_fours(call.residual);
  return {call.residual, call.y, in_fours};
}

template <typename T>
Status multiply_sorted(const Linear& linear, const cpu::LinearCallOf<T>& call, const Scratch& s, cudaStream_t stream) {
  Segments p = {};
  p.a = s.operand;
  p.b = linear.constants.at<signed char>(linear.weight);
  p.stride = linear.stride;
  p.b_stride = linear.columns;
  p.instances = call.batch;
  p.rows = static_cast<int>(call.rows);
  p.order = s.order;
  p.begin = s.begin;
  p.scale = linear.constants.at<float>(linear.table.scales);
  p.zero = linear.constants.at<int>(linear.table.zero_points);
  p.groups = linear.table.count;
  p.epilogue = epilogue_of(linear, call.batch * call.rows, s);
  const long long down = (call.rows + kSegmentRows - 1) / kSegmentRows;
  const long long across = (linear.outputs + kSegmentColumns - 1) / kSegmentColumns;
  return launch("linear product", multiply_segments<T>, dim3(static_cast<unsigned>(call.batch * down * across)),
                kSegmentThreads, static_cast<std::size_t>(kSegmentShared), stream, p, output_of(linear, call));
}

template <typename T>
Status enqueue(const Linear& linear, const cpu::LinearCallOf<T>& call, const RowsLaunch& plan, int buffer_floats,
               const Scratch& s, cudaStream_t stream) {
  if (linear.by_rows() || linear.prepares()) {
    Rows p = {};
    p.count = call.batch * call.rows;
    p.channels = linear.channels;
    if (linear.norm) {
      p.gamma = linear.constants.at<float>(linear.gamma);
      p.beta = linear.constants.at<float>(linear.beta);
    }
    p.epsilon = linear.epsilon;
    p.rotate = linear.rotate;
    p.normalize = linear.normalize;
    p.use = linear.grouping == cpu::Grouping::kBlocks ? RowUse::kBlocks
            : linear.by_rows()                        ? RowUse::kGroups
                                                      : RowUse::kFloats;
    p.blocks = linear.blocks;
    if (linear.grouping != cpu::Grouping::kBlocks) {
      p.groups = linear.table.bounds(linear.constants);
      p.steps = linear.constants.at<Step>(linear.table.steps);
      p.zero_points = linear.constants.at<int>(linear.table.zero_points);
      p.outers = linear.constants.at<float>(linear.table.outers);
    }
    p.operand = s.operand;
    p.stride = linear.stride;
    p.prepared = s.prepared;
    p.outer = linear.by_rows() ? s.outer : s.norm;
    p.zero = s.zero;
    p.buffers = s.buffers;
    p.buffer_floats = buffer_floats;
    if (Status status = launch_rows(p, call.x, plan, stream)) return status;
  }
  if (!linear.by_rows()) {
    const float* const prepared = s.prepared;
    const Status status = linear.prepares()
                              ? quantize_by_channels(linear, prepared, call.batch, call.rows, s, stream)
                              : quantize_by_channels(linear, call.x, call.batch, call.rows, s, stream);
    if (status != nullptr) return status;
  }
  if (linear.grouping == cpu::Grouping::kSegments) return multiply_sorted(linear, call, s, stream);
  Product p = {};
  p.a = s.operand;
  p.b = linear.constants.at<signed char>(linear.weight);
  p.stride = linear.stride;
  p.epilogue = epilogue_of(linear, call.batch * call.rows, s);
  return launch_product(linear, p, output_of(linear, call), stream);
}

template <typename T>
Status run(const Linear* linear, const cpu::LinearCallOf<T>& call, void* stream) {
  if (Status status = cpu::check_linear_call(call)) return status;
  if (call.batch == 0 || call.rows == 0) return nullptr;
  if (call.batch * call.rows > 1LL << 30) return cpu::error("linear: more than 2^30 rows");
  try {
    const CurrentDevice device(linear->device);
    const long long floats = row_buffer_floats(
        linear->channels, linear->grouping == cpu::Grouping::kBlocks ? linear->channels / linear->blocks.block : 0);
    const int buffer_floats = static_cast<int>(floats);
    const RowsLaunch plan = plan_rows(*linear, call.batch * call.rows, buffer_floats);
    Scratch scratch = {};
    const std::size_t bytes = lay_out(*linear, call, plan, buffer_floats, nullptr, &scratch);
    const Workspace workspace(linear->device, static_cast<cudaStream_t>(stream), bytes);
    if (workspace.status() != nullptr) return workspace.status();
    lay_out(*linear, call, plan, buffer_floats, workspace.data(), &scratch);
    return enqueue(*linear, call, plan, buffer_floats, scratch, static_cast<cudaStream_t>(stream));
  } catch (const std::bad_alloc&) {
    return cpu::error("linear: out of memory");
  }
}

}  // namespace

Status linear_create(const cpu::LinearSpec& spec, Linear** out) noexcept {
  *out = nullptr;
  try {
    std::unique_ptr<Linear> linear(new Linear);
    if (Status status = create(spec, linear.get())) return status;
    *out = linear.release();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return cpu::error("linear: out of memory");
  }
}

void linear_destroy(Linear* linear) noexcept { delete linear; }

Status linear_run(const Linear* linear, const cpu::LinearCall& call, void* stream) noexcept {
  return run(linear, call, stream);
}

Status linear_run_half(const Linear* linear, const cpu::HalfLinearCall& call, void* stream) noexcept {
  return run(linear, call, stream);
}

}  // namespace cuda
}  // namespace qcompiler
