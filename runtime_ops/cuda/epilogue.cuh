// From sums to the output of a linear layer: scales, bias, activation, residual, rounded after every operation.
//
// The lanes of a warp hold sums of pairs of columns. They exchange them through shared memory, 16 rows at a time: then a
// lane has four neighbouring columns, whole lines of the output are written at once, and the arithmetic stands in the
// program once and not once for every sum.
#ifndef QCOMPILER_CUDA_EPILOGUE_CUH_
#define QCOMPILER_CUDA_EPILOGUE_CUH_

#include "activations.cuh"
#include "arithmetic.h"
#include "fragments.h"

namespace qcompiler {
namespace cuda {

struct Epilogue {
  const float* outer;      // [rows]
  const int* zero;         // [rows], or nullptr: 0; what is subtracted per column sum
  const int* column_sum;   // [columns padded], where there are zeros
  const float* w_scale;    // [columns padded]
  const float* bias;       // [columns padded]
  long long rows;
  int columns;
  cpu::Gelu gelu;
};

// Where it goes: float or Half.
template <typename T>
struct Output {
  const T* residual;  // [rows, columns], or nullptr; may be y
  T* y;               // [rows, columns]
  bool in_fours;      // four neighbouring columns are aligned in y and residual, and so are all of them
};

// Words from row to row in the exchange: eight rows of pairs fall on different banks.
template <int kColumns>
constexpr int kExchangeStride = kColumns + 8;
template <int kColumns>
constexpr int kExchangeBytes = 16 * kExchangeStride<kColumns> * 4;  // of one warp

QC_DEVICE float as_sum(int bits, int zero, int column_sum) {
  return static_cast<float>(corrected(bits, zero, column_sum));
}
QC_DEVICE float as_sum(float value, int, int) { return value; }

// Writes 16 rows of a warp's sums. sums[j] are those of columns 8 j .. 8 j + 7, as the product leaves them: int, or float
// where they are scaled already. `last_row`: the first one that does not count.
template <int kColumns, typename Sum, typename T>
QC_DEVICE void store_rows(const Epilogue& e, const Output<T>& out, const Sum (&sums)[kColumns / 8][4], Sum* exchange,
                          long long row_begin, long long last_row, int column_begin, int lane) {
  constexpr int kStride = kExchangeStride<kColumns>;
  constexpr int kLanes = kColumns / 4;  // of one row
  sync_warp();                          // the rows before have been read
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    Sum* const at = exchange + sum_row(lane) * kStride + 8 * j + sum_column(lane);
    at[0] = sums[j][0];
    at[1] = sums[j][1];
    at[8 * kStride] = sums[j][2];
    at[8 * kStride + 1] = sums[j][3];
  }
  sync_warp();
  const int inner = lane % kLanes * 4, column = column_begin + inner;
  if (column >= e.columns) return;
  const float4 w_scale = *reinterpret_cast<const float4*>(e.w_scale + column);
  const float4 bias = *reinterpret_cast<const float4*>(e.bias + column);
  const float scales[4] = {w_scale.x, w_scale.y, w_scale.z, w_scale.w};
  const float biases[4] = {bias.x, bias.y, bias.z, bias.w};
  int column_sums[4] = {};
  if (e.zero != nullptr) {
#pragma unroll
    for (int i = 0; i < 4; ++i) column_sums[i] = e.column_sum[column + i];
  }
#pragma unroll 1
  for (int m = lane / kLanes; m < 16; m += kWarp / kLanes) {
    const long long row = row_begin + m;
    if (row >= last_row) return;
    const float outer = e.outer[row];
    const int zero = e.zero != nullptr ? e.zero[row] : 0;
    const Sum* const from = exchange + m * kStride + inner;
    const long long at = row * e.columns + column;
    Lanes<4> y;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      y.v[i] = activate(as_sum(from[i], zero, column_sums[i]) * outer * scales[i] + biases[i], e.gelu);
    }
    if (out.in_fours) {
      if (out.residual != nullptr) {
        const Lanes<4> add = load_lanes<4>(out.residual + at);
#pragma unroll
        for (int i = 0; i < 4; ++i) y.v[i] += add.v[i];
      }
      store_lanes(out.y + at, y);
    } else {
      for (int i = 0; i < 4 && column + i < e.columns; ++i) {
        store_value(out.y + at + i, out.residual != nullptr ? y.v[i] + load_value(out.residual + at + i) : y.v[i]);
      }
    }
  }
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_EPILOGUE_CUH_
