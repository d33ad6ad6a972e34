// The integer product of a linear layer with its epilogue, on tensor cores.
//
// A block computes kRows x kColumns sums. Tiles of both operands, 64 bytes deep, go through a ring of kStages in shared
// memory: while the warps multiply one, the next ones are on their way.
#ifndef QCOMPILER_CUDA_PRODUCT_CUH_
#define QCOMPILER_CUDA_PRODUCT_CUH_

#include "epilogue.cuh"

namespace qcompiler {
namespace cuda {

struct Product {
  const unsigned char* a;  // [rows, stride]
  const signed char* b;    // [columns padded, stride]: the weights of an output lie together
  int stride;              // depth in bytes, a multiple of 64
  Epilogue epilogue;
};

// kWarpRows and kWarpColumns: sums of one warp, multiples of 16.
template <int kRowCount, int kColumnCount, int kWarpRowCount, int kWarpColumnCount, int kStageCount>
struct TileShape {
  static constexpr int kRows = kRowCount, kColumns = kColumnCount;
  static constexpr int kWarpRows = kWarpRowCount, kWarpColumns = kWarpColumnCount;
  static constexpr int kStages = kStageCount;
  static constexpr int kThreads = kRows / kWarpRows * (kColumns / kWarpColumns) * kWarp;
  static constexpr int kStageBytes = (kRows + kColumns) * kTileDepth;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kThreads / kWarp * kExchangeBytes<kWarpColumns> <= kSharedBytes, "the sums take the place of the tiles");
};

// One tile of `count` rows from row `first` on; rows behind the last one repeat it.
template <int kThreads, int kCount>
QC_DEVICE void copy_tile(unsigned char* tile, const unsigned char* from, long long first, long long rows, int stride,
                         int depth) {
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const long long source = first + row < rows ? first + row : rows - 1;
    copy_async(tile + tile_offset(row, chunk), from + source * stride + depth + chunk * kChunk);
  }
}

template <bool kUnsigned, typename Shape, typename T>
QC_KERNEL __launch_bounds__(Shape::kThreads, 2) multiply(Product p, Output<T> out) {
  constexpr int kRowSteps = Shape::kWarpRows / 16, kColumnSteps = Shape::kWarpColumns / 8;
  unsigned char* const shared = shared_memory();
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kWarpsAcross = Shape::kColumns / Shape::kWarpColumns;
  const int warp_row = warp / kWarpsAcross * Shape::kWarpRows;
  const int warp_column = warp % kWarpsAcross * Shape::kWarpColumns;
  // Blocks that run together share rows: the columns pass by first.
  const int across = (p.epilogue.columns + Shape::kColumns - 1) / Shape::kColumns;
  const int column_begin = static_cast<int>(blockIdx.x % static_cast<unsigned>(across)) * Shape::kColumns;
  const long long row_begin = static_cast<long long>(blockIdx.x / static_cast<unsigned>(across)) * Shape::kRows;
  const unsigned char* const b = reinterpret_cast<const unsigned char*>(p.b);
  const int tiles = p.stride / kTileDepth;

  int sums[kRowSteps][kColumnSteps][4] = {};

  const auto request = [&](int tile) {
    if (tile < tiles) {
      unsigned char* const stage = shared + tile % Shape::kStages * Shape::kStageBytes;
      copy_tile<Shape::kThreads, Shape::kRows>(stage, p.a, row_begin, p.epilogue.rows, p.stride, tile * kTileDepth);
      copy_tile<Shape::kThreads, Shape::kColumns>(stage + Shape::kRows * kTileDepth, b, column_begin,
                                                  column_begin + Shape::kColumns, p.stride, tile * kTileDepth);
    }
    commit_copies();  // one group per tile, so that the number of groups says which tile has arrived
  };
#pragma unroll
  for (int tile = 0; tile < Shape::kStages - 1; ++tile) request(tile);

  for (int tile = 0; tile < tiles; ++tile) {
    wait_copies<Shape::kStages - 2>();
    sync_block();  // the tile is there for all, and the one before it has been used by all
    request(tile + Shape::kStages - 1);
    const unsigned char* const left = shared + tile % Shape::kStages * Shape::kStageBytes;
    const unsigned char* const right = left + Shape::kRows * kTileDepth;
#pragma unroll
    for (int half = 0; half < kChunks; half += 2) {
      unsigned x[kRowSteps][4], w[kColumnSteps / 2][4];
#pragma unroll
      for (int i = 0; i < kRowSteps; ++i) {
        load_matrices(x[i], left + tile_offset(warp_row + 16 * i + left_row(lane), half + left_chunk(lane)));
      }
#pragma unroll
      for (int j = 0; j < kColumnSteps / 2; ++j) {
        load_matrices(w[j], right + tile_offset(warp_column + 16 * j + right_column(lane), half + right_chunk(lane)));
      }
#pragma unroll
      for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnSteps; ++j) {
          multiply_add<kUnsigned>(sums[i][j], x[i], w[j / 2][j % 2 * 2], w[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
  wait_copies<0>();
  sync_block();  // the tiles have been used: the sums take their place

  int* const exchange = reinterpret_cast<int*>(shared + warp * kExchangeBytes<Shape::kWarpColumns>);
#pragma unroll
  for (int i = 0; i < kRowSteps; ++i) {
    store_rows<Shape::kWarpColumns>(p.epilogue, out, sums[i], exchange, row_begin + warp_row + 16 * i,
                                    p.epilogue.rows, column_begin + warp_column, lane);
  }
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_PRODUCT_CUH_
