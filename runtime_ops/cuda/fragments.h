// Where things lie: operands in shared memory, and in the lanes of a warp for m16n8k32 products of bytes.
//
// A tile in shared memory has rows of 64 bytes, in four chunks of 16. ldmatrix reads a chunk of eight neighbouring rows
// at a time; the chunks of a row are permuted so that these eight never meet in a bank.
#ifndef QCOMPILER_CUDA_FRAGMENTS_H_
#define QCOMPILER_CUDA_FRAGMENTS_H_

#include "device.h"

namespace qcompiler {
namespace cuda {

constexpr int kProductDepth = 32;  // of one product
constexpr int kChunk = 16;
constexpr int kTileDepth = 64;  // bytes of a row of a tile
constexpr int kChunks = kTileDepth / kChunk;

// Byte offset of a chunk of a row of a tile.
QC_HD int tile_offset(int row, int chunk) { return row * kTileDepth + (chunk ^ (row / 2 % kChunks)) * kChunk; }

// The same in tiles with rows of 32 bytes, two chunks each.
QC_HD int narrow_offset(int row, int chunk) { return row * kProductDepth + (chunk ^ (row / 4 % 2)) * kChunk; }

// ldmatrix of a left operand of 16 rows and 32 bytes: the row and the chunk (0 or 1) whose address a lane gives.
QC_HD int left_row(int lane) { return lane % 16; }
QC_HD int left_chunk(int lane) { return lane / 16; }
// The same of two right operands of 8 columns each and 32 bytes: words 0 and 1 are the first one's, 2 and 3 the second's.
QC_HD int right_column(int lane) { return lane % 8 + lane / 16 * 8; }
QC_HD int right_chunk(int lane) { return lane / 8 % 2; }

// The sums that a lane holds: rows sum_row and sum_row + 8, columns sum_column and the next.
QC_HD int sum_row(int lane) { return lane / 4; }
QC_HD int sum_column(int lane) { return lane % 4 * 2; }

// Without ldmatrix: a lane's words are bytes word_begin .. + 3 of rows lane / 4 (and + 8), and the same 16 bytes on.
QC_HD int word_begin(int lane) { return lane % 4 * 4; }

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_FRAGMENTS_H_
