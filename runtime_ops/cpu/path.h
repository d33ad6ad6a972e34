// Internal contract between the drivers (linear, attention) and the code of one instruction set.
//
// An instruction set supplies one integer product and a list of float stages. The drivers own blocking, threads and
// scratch; they are compiled for the baseline processor and call through the tables below.
#ifndef QCOMPILER_CPU_PATH_H_
#define QCOMPILER_CPU_PATH_H_

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace qcompiler {
namespace cpu {

constexpr int kPanel = 16;      // columns of one packed panel; also lanes of the float stages
constexpr int kDepthPad = 64;   // rows of A are readable up to a multiple of this many bytes

// The right operand of the product, s8 [K, N], cut into panels of 16 columns. Inside a panel:
//   narrow: [depth / 4][16 columns][4 of K] int8   (vpmaddubsw, vpdpbusd, tdpbusd)
//   wide:   [depth / 2][16 columns][2 of K] int16  (vpmaddwd, where pairs of products do not fit int16; portable)
// Both take 64 bytes per step. Rows between K and depth are zero, so what A holds there does not matter.
struct Panels {
  const void* data = nullptr;
  std::ptrdiff_t stride = 0;  // bytes from panel to panel
  std::int32_t depth = 0;     // K rounded up to Path::depth_multiple
  std::int32_t period = 1;    // narrow, `saturates` only: 4-steps that an int16 sum of pairs can take
  bool wide = false;
  // [panels][depth / 4] or nullptr. Narrow, `saturates` only: the lengths of the runs of 4-steps that an int16 sum can
  // take in each panel (see windows.h).
  const std::uint8_t* windows = nullptr;
};

// Columns of a group table, one array each, padded to 16 entries.
struct GroupColumns {
  const float* lower;
  const float* upper;
  std::int32_t count;
};

// code/operand of x:  clip(rint(x * inverse), low, high), then + offset. low and high are integers, so clipping first
// equals rounding first; NaN becomes low.
struct RowQuantizer {
  float inverse;        // 1 / scale
  float low;            // clip bounds in units of the operand
  float high;
  std::int32_t offset;  // added to reach the stored byte
};

// Per channel arrays, padded to 16. With `multiplier` the operand is clip(multiplier * clipped code, -127, 127).
struct ChannelQuantizer {
  const float* inverse;
  const float* low;
  const float* high;
  const float* multiplier;     // or nullptr
  const std::int32_t* add;     // per channel, or nullptr
  std::int32_t offset;         // added when `add` is nullptr
};

// A row in blocks of channels. With s = max|x| / reach (1 for zeros) and u = x * (1 / s), per block:
//   m = clip(ceil((hi - lo) * inverse_top - slack), 1, most),  z = clip(rint(-lo * (1 / m)), 0, top),
// where [lo, hi] is the range of u with zero, times clip; the operand is
//   clip(m * (clip(rint(u * (1 / m)) + z, 0, top) - z), -127, 127), and the stored byte that + offset.
struct BlockQuantizer {
  std::int32_t block;  // channels of one block
  float clip, slack;
  float top, inverse_top;  // largest code, 1 / top
  float most;              // largest multiplier
  float reach;             // largest |u|
  std::int32_t offset;     // kBlockOffset for a left operand, 0 for a right one
};
constexpr int kBlockOffset = 127;

// Rows that Stages::quantize_blocks takes at a time when each has `count` blocks, and the floats it works in.
constexpr int rows_of_blocks(int count) { return count < 256 ? 256 / count : 1; }
constexpr std::ptrdiff_t block_work(int count) {
  return 5 * ((static_cast<std::ptrdiff_t>(rows_of_blocks(count)) * count + kPanel - 1) / kPanel * kPanel) + kPanel;
}

// y = (float(acc - zero[m] * column_sum[n]) * outer[m]) * w_scale[n] + bias[n], activation, + residual.
struct Epilogue {
  const std::int32_t* acc = nullptr;
  const float* sum = nullptr;  // instead of acc: already in float
  std::ptrdiff_t ld_acc = 0;   // of acc and sum
  int rows = 0;
  int cols = 0;
  const std::int32_t* zero = nullptr;        // [rows], or nullptr: 1
  const std::int32_t* column_sum = nullptr;  // [cols], padded to 16, or nullptr: 0; then no zero either
  const float* outer = nullptr;              // [rows], or nullptr: 1
  const float* w_scale = nullptr;            // [cols], padded to 16
  const float* bias = nullptr;               // [cols], padded to 16, or nullptr
  Gelu gelu = Gelu::kNone;
  const float* residual = nullptr;  // same row stride as y
  float* y = nullptr;
  std::ptrdiff_t ld_y = 0;
};

// score = (float(acc - zero[m] * column_sum[n]) * row_scale[m]) * col_scale[n] + bias, written over acc as float.
struct Scores {
  std::int32_t* acc;
  std::ptrdiff_t ld_acc;
  int rows;
  int cols;
  const std::int32_t* zero;
  const std::int32_t* column_sum;  // padded to 16
  const float* row_scale;
  const float* col_scale;  // padded to 16
  const float* bias;       // or nullptr
  std::ptrdiff_t ld_bias;
};

struct Stages {
  void (*row_stats)(const float* x, std::ptrdiff_t ld, int rows, int cols, float epsilon, float* mean, float* rstd);
  void (*normalize)(const float* x, std::ptrdiff_t ld, int rows, int cols, const float* mean, const float* rstd,
                    const float* gamma, const float* beta, float* out, std::ptrdiff_t ld_out);
  // norm[m] = root mean square of a row (1 for zeros); out = x / norm, may be x itself.
  void (*row_norm)(const float* x, std::ptrdiff_t ld, int rows, int cols, float* norm, float* out,
                   std::ptrdiff_t ld_out);
  // Every `size` neighbouring channels as their Walsh-Hadamard transform; out may be x itself.
  void (*rotate_rows)(const float* x, std::ptrdiff_t ld, int rows, int cols, int size, float* out,
                      std::ptrdiff_t ld_out);
  // lower/upper padded to 16; `first` starts them, otherwise they are widened.
  void (*channel_ranges)(const float* x, std::ptrdiff_t ld, int rows, int cols, float* lower, float* upper, bool first);
  void (*row_ranges)(const float* x, std::ptrdiff_t ld, int rows, int cols, float* lower, float* upper);
  // lower, upper, index readable and writable up to a multiple of 16.
  void (*assign)(const float* lower, const float* upper, int count, const GroupColumns& groups, std::int32_t* index);
  // out readable and writable up to a multiple of 16 bytes per row.
  void (*quantize_rows)(const float* x, std::ptrdiff_t ld, int rows, int cols, const RowQuantizer* groups,
                        const std::int32_t* index, std::uint8_t* out, std::ptrdiff_t ld_out);
  void (*quantize_channels)(const float* x, std::ptrdiff_t ld, int rows, int cols, const ChannelQuantizer& quantizer,
                            std::uint8_t* out, std::ptrdiff_t ld_out);
  // scale[m]: the outer scale of a row; `shared`: the same for all rows. work: block_work(blocks of a row). Whole blocks
  // only.
  void (*quantize_blocks)(const float* x, std::ptrdiff_t ld, int rows, int cols, const BlockQuantizer& quantizer,
                          bool shared, float* work, float* scale, std::uint8_t* out, std::ptrdiff_t ld_out);
  void (*epilogue)(const Epilogue& e);
  // sum = (first ? 0 : sum) + float(acc - correction[n]) * scale
  void (*add_segment)(const std::int32_t* acc, std::ptrdiff_t ld, int rows, int cols, const std::int32_t* correction,
                      float scale, bool first, float* sum);
  void (*scores)(const Scores& s);
  // In place; padded columns may be overwritten. lower/upper: range of every row of the result.
  void (*softmax)(float* x, std::ptrdiff_t ld, int rows, int cols, float* lower, float* upper);
  // byte -> table[byte] in place; the table has `count` entries and is readable up to 256.
  void (*map_bytes)(std::uint8_t* data, std::ptrdiff_t ld, int rows, int cols, const std::uint8_t* table, int count);
  void (*from_half)(const Half* x, std::ptrdiff_t count, float* out);
  void (*to_half)(const float* x, std::ptrdiff_t count, Half* out);  // to nearest, ties to even
};

struct Path {
  const char* name;
  bool built;
  bool (*detect)();
  int depth_multiple;  // depth of packed panels is a multiple of this
  int row_multiple;    // rows of A and of acc are readable/writable up to a multiple of this
  int row_block;       // blocks of rows are best a multiple of this
  bool saturates;      // the narrow product adds pairs in int16: needs Panels::period, or the wide format
  void (*enter)();     // around a run of products on one thread (tile configuration); or nullptr
  void (*leave)();
  // acc[m, n] = sum_k a[m, k] * b[k, n] for m < rows and all 16 * panels columns; exact, modulo 2^32.
  void (*product)(const std::uint8_t* a, std::ptrdiff_t lda, int rows, const Panels& b, int panels, std::int32_t* acc,
                  std::ptrdiff_t ld_acc);
  const Stages* stages;
  const Path* segments;  // the path that runs many short reductions; nullptr: this one
  bool widens = false;   // takes only wide panels
};

extern const Stages kPortableStages;
extern const Stages kAvx2Stages;
extern const Stages kAvx512Stages;

extern const Path kPortablePath;
extern const Path kSsse3Path;
extern const Path kAvx2Path;
extern const Path kAvxVnniPath;
extern const Path kVnniPath;
extern const Path kAmxPath;

// The path for new operators, or nullptr with *status set.
const Path* active_path(Status* status) noexcept;
// The path that is the reference: no product, no stages.
bool is_reference(const Path& path) noexcept;

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_PATH_H_
