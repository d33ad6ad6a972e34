// One pass over the rows of an activation: LayerNormalization, rotation, row norm, ranges, assignment, quantization.
// A warp takes a row and holds it in shared memory, or in memory of its own where shared memory is too small.
#ifndef QCOMPILER_CUDA_ROWS_CUH_
#define QCOMPILER_CUDA_ROWS_CUH_

#include "activations.cuh"
#include "warp.h"

namespace qcompiler {
namespace cuda {

// What becomes of a prepared row.
enum class RowUse {
  kBlocks,  // operands in blocks, s8
  kGroups,  // codes of the nearest group, u8, and its zero point
  kFloats,  // the row itself and its norm: the quantizer needs all rows first
};

struct Rows {
  long long count;
  int channels;
  const float *gamma, *beta;  // nullptr: no LayerNormalization
  float epsilon;
  int rotate;
  bool normalize;  // divide by the root mean square

  RowUse use;
  cpu::BlockQuantizer blocks;  // kBlocks
  GroupBounds groups;          // kGroups
  const Step* steps;
  const int* zero_points;
  const float* outers;

  unsigned char* operand;  // [count, stride], zero from `channels` on
  int stride;              // a multiple of 64
  float* prepared;         // kFloats: [count, channels]
  float* outer;            // [count]; for kFloats the norm
  int* zero;               // [count], kGroups

  float* buffers;    // one per warp of the grid, where they are not in shared memory
  int buffer_floats;  // of one warp
};

// Floats that a warp needs: the row, and the steps of its blocks at an address that is aligned for them.
inline long long row_buffer_floats(int channels, int block_count) {
  return (channels + 3LL) / 4 * 4 + 4LL * block_count;
}

// Stages of the Walsh-Hadamard transform whose partners are `half` < 32 * kVector channels apart. All lanes take part.
template <int kVector>
QC_DEVICE void rotate_lanes(Lanes<kVector>* x, int size, int lane) {
#pragma unroll
  for (int half = 1; half < kVector; half *= 2) {
    if (half >= size) return;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if ((i & half) != 0) continue;
      const float low = x->v[i], high = x->v[i + half];
      x->v[i] = low + high;
      x->v[i + half] = low - high;
    }
  }
#pragma unroll
  for (int mask = 1; mask < kWarp; mask *= 2) {
    if (mask * kVector >= size) return;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float partner = shuffle_xor(x->v[i], mask);
      x->v[i] = (lane & mask) != 0 ? partner - x->v[i] : x->v[i] + partner;
    }
  }
}

// LayerNormalization of a row that is loaded already; `sum` is this lane's part of the sum of its values.
template <int kVector>
QC_DEVICE void normalize_row(const Rows& p, float* row, double sum, int lane) {
  const double mean = warp_sum(sum) / p.channels;
  double squares = 0.0;
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    const Lanes<kVector> x = load_lanes<kVector>(row + c);
#pragma unroll
    for (int i = 0; i < kVector; ++i) squares += (x.v[i] - mean) * (x.v[i] - mean);
  }
  const double variance = warp_sum(squares) / p.channels;
  const float center = static_cast<float>(mean);
  const float scale = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(p.epsilon)));
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    Lanes<kVector> x = load_lanes<kVector>(row + c);
    const Lanes<kVector> gamma = load_lanes<kVector>(p.gamma + c), beta = load_lanes<kVector>(p.beta + c);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x.v[i] = (x.v[i] - center) * scale * gamma.v[i] + beta.v[i];
    store_lanes(row + c, x);
  }
}

template <int kVector>
QC_DEVICE void rotate_row(const Rows& p, float* row, int lane) {
  for (int base = 0; base < p.channels; base += kWarp * kVector) {
    const int c = base + lane * kVector;
    Lanes<kVector> x = {};
    if (c < p.channels) x = load_lanes<kVector>(row + c);
    rotate_lanes(&x, p.rotate, lane);
    if (c < p.channels) store_lanes(row + c, x);
  }
  // Partners this far apart belong to one lane again.
  for (int half = kWarp * kVector; half < p.rotate; half *= 2) {
    for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
      if ((c & half) != 0) continue;
      Lanes<kVector> low = load_lanes<kVector>(row + c), high = load_lanes<kVector>(row + c + half);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float sum = low.v[i] + high.v[i], difference = low.v[i] - high.v[i];
        low.v[i] = sum;
        high.v[i] = difference;
      }
      store_lanes(row + c, low);
      store_lanes(row + c + half, high);
    }
  }
}

// Divides a row by its root mean square, which comes back (1 for zeros).
template <int kVector>
QC_DEVICE float divide_by_norm(const Rows& p, float* row, int lane) {
  double squares = 0.0;
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    const Lanes<kVector> x = load_lanes<kVector>(row + c);
#pragma unroll
    for (int i = 0; i < kVector; ++i) squares += static_cast<double>(x.v[i]) * x.v[i];
  }
  const float root = static_cast<float>(sqrt(warp_sum(squares) / p.channels));
  const float norm = root > 0.0f ? root : 1.0f;
  const float inverse = 1.0f / norm;
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    Lanes<kVector> x = load_lanes<kVector>(row + c);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x.v[i] *= inverse;
    store_lanes(row + c, x);
  }
  return norm;
}

// One row into `row`, up to the quantizer; returns its norm.
template <int kVector, typename T>
QC_DEVICE float prepare_row(const Rows& p, const T* x, float* row, int lane) {
  double sum = 0.0;
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    const Lanes<kVector> v = load_lanes<kVector>(x + c);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum += v.v[i];
    store_lanes(row + c, v);
  }
  if (p.gamma != nullptr) normalize_row<kVector>(p, row, sum, lane);
  if (p.rotate > 1) rotate_row<kVector>(p, row, lane);
  return p.normalize ? divide_by_norm<kVector>(p, row, lane) : 1.0f;
}

template <int kVector>
QC_DEVICE void store_operands(unsigned char* p, const int (&operand)[kVector]) {
  if constexpr (kVector == 4) {
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) word |= (static_cast<unsigned>(operand[i]) & 255u) << 8 * i;
    *reinterpret_cast<unsigned*>(p) = word;
  } else {
    *p = static_cast<unsigned char>(operand[0]);
  }
}

// Lanes that share one block: as many as keep a warp busy.
QC_HD int lanes_per_block(int count) {
  int lanes = 1;
  while (2 * lanes * count <= kWarp) lanes *= 2;
  return lanes;
}

// Ranges of the blocks of a row that all lanes can read, zero included, as low and high of `steps`; returns the largest
// magnitude of the row.
QC_DEVICE float block_ranges(const float* row, int channels, int block, Step* steps, int lane) {
  const int count = channels / block, lanes = lanes_per_block(count);
  const int part = lane % lanes;
  float peak = 0.0f;
  for (int base = 0; base < count; base += kWarp / lanes) {
    const int b = base + lane / lanes;
    float low = 0.0f, high = 0.0f;
    if (b < count) {
      // Each block begins elsewhere: lanes that walked in step would meet in one memory bank.
      int at = (b + part) % block;
      for (int i = part; i < block; i += lanes) {
        const float v = row[b * block + at];
        low = fminf(v, low);
        high = fmaxf(v, high);
        at += lanes;
        if (at >= block) at %= block;
      }
    }
    for (int mask = 1; mask < lanes; mask *= 2) {
      low = fminf(low, shuffle_xor(low, mask));
      high = fmaxf(high, shuffle_xor(high, mask));
    }
    if (b < count && part == 0) {
      steps[b].low = low;
      steps[b].high = high;
    }
    peak = fmaxf(peak, fmaxf(0.0f - low, high));
  }
  return warp_max(peak);
}

// The blocks of a row as operands, with a given outer scale.
template <int kVector>
QC_DEVICE void quantize_block_row(const float* row, int channels, const cpu::BlockQuantizer& q, float scale, Step* steps,
                                  int lane, unsigned char* out) {
  const float units = 1.0f / scale;
  sync_warp();
  for (int b = lane; b < channels / q.block; b += kWarp) {
    steps[b] = block_step(q, steps[b].low, steps[b].high, units);
  }
  sync_warp();
  for (int c = lane * kVector; c < channels; c += kWarp * kVector) {
    const Lanes<kVector> x = load_lanes<kVector>(row + c);
    const Step step = steps[c / q.block];
    int operand[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) operand[i] = block_operand(x.v[i], units, step);
    store_operands<kVector>(out + c, operand);
  }
}

template <int kVector>
QC_DEVICE void quantize_group_row(const Rows& p, const float* row, float norm, long long m, int lane,
                                  unsigned char* out) {
  float lower = INFINITY, upper = -INFINITY;
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    const Lanes<kVector> x = load_lanes<kVector>(row + c);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      lower = fminf(lower, x.v[i]);
      upper = fmaxf(upper, x.v[i]);
    }
  }
  const int group = nearest_group_of_warp(warp_min(lower), warp_max(upper), p.groups, lane);
  const Step step = p.steps[group];
  const int zero = p.zero_points[group];
  for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
    const Lanes<kVector> x = load_lanes<kVector>(row + c);
    int operand[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) operand[i] = static_cast<int>(centred_code(x.v[i], step)) + zero;
    store_operands<kVector>(out + c, operand);
  }
  if (lane == 0) {
    p.outer[m] = p.outers[group] * norm;
    p.zero[m] = zero;
  }
}

// Of x [count, channels]. kVector neighbouring channels of a row are one lane's: it alone reads and writes them, without a
// barrier. kVector divides the channels, and the block where there are blocks.
template <int kVector, bool kShared, typename T>
QC_KERNEL __launch_bounds__(256) quantize_rows(Rows p, const T* x) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const long long first = static_cast<long long>(blockIdx.x) * warps + warp;
  float* const row = kShared ? reinterpret_cast<float*>(shared_memory()) + warp * p.buffer_floats
                             : p.buffers + first * p.buffer_floats;
  Step* const steps = reinterpret_cast<Step*>(row + (p.channels + 3) / 4 * 4);
  for (long long m = first; m < p.count; m += static_cast<long long>(gridDim.x) * warps) {
    const float norm = prepare_row<kVector>(p, x + m * p.channels, row, lane);
    if (p.use == RowUse::kFloats) {
      float* const out = p.prepared + m * p.channels;
      for (int c = lane * kVector; c < p.channels; c += kWarp * kVector) {
        store_lanes(out + c, load_lanes<kVector>(row + c));
      }
      if (lane == 0) p.outer[m] = norm;
      continue;
    }
    unsigned char* const out = p.operand + m * p.stride;
    for (int c = p.channels + lane; c < p.stride; c += kWarp) out[c] = 0;
    if (p.use == RowUse::kGroups) {
      quantize_group_row<kVector>(p, row, norm, m, lane, out);
      continue;
    }
    sync_warp();  // blocks cross the lanes
    const float scale = outer_scale(p.blocks, block_ranges(row, p.channels, p.blocks.block, steps, lane));
    quantize_block_row<kVector>(row, p.channels, p.blocks, scale, steps, lane, out);
    if (lane == 0) p.outer[m] = scale * norm;
  }
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_ROWS_CUH_
