// A linear layer as created: constants copied and padded, weights packed for one path.
#ifndef QCOMPILER_CPU_LINEAR_H_
#define QCOMPILER_CPU_LINEAR_H_

#include <cstdint>
#include <vector>

#include "pack.h"
#include "packed_cache.h"
#include "parallel.h"
#include "path.h"
#include "quantizer.h"
#include "scratch.h"

namespace qcompiler {
namespace cpu {

constexpr int kBlockPanels = 4;                       // panels that share one block of accumulators
constexpr int kBlockCols = kBlockPanels * kPanel;
constexpr int kBlockRows = 64;                        // most rows of one block of accumulators (16 KiB)
constexpr int kNormRows = 16;                         // rows that are normalized at a time

struct Linear {
  const Path* path = nullptr;  // of the product; segments may run on another one than the active path
  std::int64_t channels = 0, outputs = 0;
  Grouping grouping = Grouping::kRows;
  Gelu gelu = Gelu::kNone;
  bool norm = false;      // LayerNormalization
  int rotate = 1;         // channels that are rotated together; 1 for none
  bool row_norm = false;  // rows divided by their root mean square
  float epsilon = 0.0f;
  std::vector<float> w_scale, bias, gamma, beta;  // padded to 16
  GroupQuantizer quantizer;
  BlockQuantizer blocks = {};  // kBlocks, in place of the table
  PanelFormat format;

  // Bytes of the weights: packed panels, or for segments plain stripes [panel][C][16], from which panels are
  // gathered at run time. For the reference path the operands [C, D].
  PackedWeights weight;
  std::vector<std::int32_t> column_sum;  // [D], padded to 16; times the zero point where all rows have the same
  std::vector<std::uint8_t> windows;     // of the panels; empty for none

  // Reference path only: what the operator was created from, pointing into the copies below.
  LinearSpec spec;
  std::vector<float> groups;

  // The rows of different instances do not depend on each other.
  bool by_rows() const { return grouping == Grouping::kRows || grouping == Grouping::kBlocks; }
  // Zero points are those of each row's group.
  bool zero_by_row() const { return grouping == Grouping::kRows; }
  std::int64_t panel_count() const { return (outputs + kPanel - 1) / kPanel; }
};

// Rows of one block: a multiple of what the product takes at once.
inline std::int64_t block_rows(const Path& path) { return kBlockRows / path.row_block * path.row_block; }

// Rows of one pass over the weights: as many as fit half of a small second-level cache.
std::int64_t chunk_rows(const Path& path, std::int64_t rows, std::ptrdiff_t lda);

// Per channel arrays of one instance, gathered from the groups of its channels.
struct ChannelParameters {
  float *lower, *upper;  // range of every channel
  std::int32_t* index;   // group of every channel
  float *inverse, *low, *high, *multiplier;
  void take(Arena& arena, std::int64_t channels);
  // lower/upper from the ranges [parts][2][C padded to 16] that the tasks of one instance measured.
  void join(const Linear& linear, const float* ranges, std::int64_t parts) const;
  // Assigns from lower/upper and gathers.
  void assign(const Linear& linear) const;
};

// Rows as the quantizer sees them, after LayerNormalization, rotation and row norm; at most kNormRows at a time.
struct PreparedRows {
  const float* data;
  std::ptrdiff_t ld;
};

// Ranges of the channels over rows [begin, end) of `x`; the statistics of LayerNormalization are left in mean/rstd.
struct RangeBuffers {
  float* norm;      // [kNormRows, C padded to 16]
  float* row_norm;  // [kNormRows] root mean squares of the rows prepared last
  void take(Arena& arena, const Linear& linear);
};
// Prepares rows whose LayerNormalization statistics are known; without a step to take the rows themselves come back.
PreparedRows prepare_rows(const Linear& linear, const float* x, int rows, const float* mean, const float* rstd,
                          const RangeBuffers& buffers);
void measure_channels(const Linear& linear, const float* x, std::int64_t rows, float* mean, float* rstd,
                      const RangeBuffers& buffers, float* lower, float* upper);

std::size_t segments_scratch(const Linear& linear, std::int64_t batch, std::int64_t rows, int threads);
void run_segments(const Linear& linear, const LinearCall& call, void* scratch, const Parallel& parallel);

std::size_t dense_scratch(const Linear& linear, std::int64_t batch, std::int64_t rows, int threads);
void run_dense(const Linear& linear, const LinearCall& call, void* scratch, const Parallel& parallel);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_LINEAR_H_
