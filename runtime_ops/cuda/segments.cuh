// Linear layers with free scales per group of channels: every group is a product of its own, added up in float.
//
// The channels of an instance are sorted by group and so are the rows of the weight, while they are brought in: they lie
// output by output, a thread takes the bytes of four neighbouring outputs from four rows and turns them around.
#ifndef QCOMPILER_CUDA_SEGMENTS_CUH_
#define QCOMPILER_CUDA_SEGMENTS_CUH_

#include "channels.cuh"
#include "epilogue.cuh"

namespace qcompiler {
namespace cuda {

constexpr int kSegmentRows = 64, kSegmentColumns = 64;
constexpr int kSegmentThreads = 128;                      // four warps of 32 x 32 sums
constexpr int kSegmentTile = 64 * kProductDepth;             // bytes of a tile of either operand
constexpr int kSegmentTiles = 2 * kSegmentTile + kSegmentColumns * static_cast<int>(sizeof(int));
constexpr int kSegmentExchange = kSegmentThreads / kWarp * kExchangeBytes<32>;
constexpr int kSegmentShared = kSegmentTiles > kSegmentExchange ? kSegmentTiles : kSegmentExchange;

struct Segments {
  const unsigned char* a;  // sorted codes [instances * rows, stride]
  const signed char* b;    // [channels, columns padded]
  int stride;
  int b_stride;            // columns padded, a multiple of 64
  long long instances;
  int rows;                // of one instance
  const int* order;        // [instances, stride]
  const int* begin;        // [instances, groups + 1]
  const float* scale;      // [groups]
  const int* zero;         // [groups]
  int groups;
  Epilogue epilogue;
};

// Bytes i of the four words become word i.
QC_DEVICE void transpose_bytes(unsigned (&w)[4]) {
  unsigned out[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) out[i] |= (w[k] >> 8 * i & 255u) << 8 * k;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) w[i] = out[i];
}

template <typename T>
QC_KERNEL __launch_bounds__(kSegmentThreads) multiply_segments(Segments p, Output<T> out) {
  unsigned char* const left = shared_memory();
  unsigned char* const right = left + kSegmentTile;
  int* const column_sum = reinterpret_cast<int*>(right + kSegmentTile);  // of the group, [kSegmentColumns]
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const unsigned down = static_cast<unsigned>((p.rows + kSegmentRows - 1) / kSegmentRows);
  const unsigned across = static_cast<unsigned>((p.epilogue.columns + kSegmentColumns - 1) / kSegmentColumns);
  const long long instance = blockIdx.x / across / down;
  const int row_begin = static_cast<int>(blockIdx.x / across % down) * kSegmentRows;
  const int column_begin = static_cast<int>(blockIdx.x % across) * kSegmentColumns;
  const unsigned char* const a = p.a + instance * p.rows * p.stride;
  const int* const order = p.order + instance * p.stride;
  const int* const begin = p.begin + instance * (p.groups + 1);

  float totals[2][4][4] = {};
  for (int g = 0; g < p.groups; ++g) {
    const int first = begin[g], last = begin[g + 1];
    if (first == last) continue;  // adds nothing
    int sums[2][4][4] = {};
    int mine = 0;  // column sum of column `thread` of the tile
    for (int depth = first; depth < last; depth += kProductDepth) {
      sync_block();  // the tiles before have been used
      {
        const int row = thread / 2, chunk = thread % 2;
        const int source = row_begin + row < p.rows ? row_begin + row : p.rows - 1;
        copy_async(left + narrow_offset(row, chunk), a + static_cast<long long>(source) * p.stride + depth + chunk * kChunk);
        commit_copies();
      }
      {
        const int n = thread % 16 * 4, k = thread / 16 * 4;  // four columns, four positions
        unsigned w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int channel = order[depth + k + i];
          w[i] = channel < 0 ? 0u
                             : *reinterpret_cast<const unsigned*>(
                                   p.b + static_cast<long long>(channel) * p.b_stride + column_begin + n);
        }
        transpose_bytes(w);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          *reinterpret_cast<unsigned*>(right + narrow_offset(n + i, k / kChunk) + k % kChunk) = w[i];
        }
      }
      wait_copies<0>();
      sync_block();
      if (thread < kSegmentColumns) {
        const unsigned* const row = reinterpret_cast<const unsigned*>(right + thread * kProductDepth);
#pragma unroll
        for (int i = 0; i < kProductDepth / 4; ++i) mine = add_bytes(mine, row[i]);
      }
      unsigned x[2][4], w[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_matrices(x[i], left + narrow_offset(warp_row + 16 * i + left_row(lane), left_chunk(lane)));
        load_matrices(w[i], right + narrow_offset(warp_column + 16 * i + right_column(lane), right_chunk(lane)));
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply_add<true>(sums[i][j], x[i], w[j / 2][j % 2 * 2], w[j / 2][j % 2 * 2 + 1]);
      }
    }
    if (thread < kSegmentColumns) column_sum[thread] = mine;
    sync_block();
    const float scale = p.scale[g];
    const int zero = p.zero[g];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int column = warp_column + 8 * j + sum_column(lane) + k % 2;
          totals[i][j][k] += static_cast<float>(corrected(sums[i][j][k], zero, column_sum[column])) * scale;
        }
      }
    }
  }

  float* const exchange = reinterpret_cast<float*>(left) + warp * (kExchangeBytes<32> / 4);
  sync_block();  // the last tiles and column sums have been used
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    store_rows<32>(p.epilogue, out, totals[i], exchange, instance * p.rows + row_begin + warp_row + 16 * i,
                   (instance + 1) * p.rows, column_begin + warp_column, lane);
  }
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_SEGMENTS_CUH_
