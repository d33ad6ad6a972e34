// Attention in three steps: rows of q and k to integers; v to integers, head channels by tokens; then blocks of rows
// through scores, softmax, levels and the product with v, the scores never leaving shared memory.
#ifndef QCOMPILER_CUDA_ATTENTION_CUH_
#define QCOMPILER_CUDA_ATTENTION_CUH_

#include "fragments.h"
#include "rows.cuh"

namespace qcompiler {
namespace cuda {

constexpr int kHeadThreads = 256;
constexpr int kHeadWarps = kHeadThreads / kWarp;
constexpr int kTokenTile = 32;   // tokens of v that are turned around at a time
constexpr int kAttendThreads = 128;
constexpr int kAttendWarps = kAttendThreads / kWarp;
constexpr int kAttendRows = 32;  // of one block: two rows of tensor-core tiles

// How q, k or v become operands.
struct HeadQuantizer {
  bool in_blocks;
  cpu::BlockQuantizer blocks;
  GroupBounds groups;
  const Step* steps;
  const float* outers;
};

// The tensors are parameters of the kernels, of float or Half: qkv [batch, tokens, 3, heads, head_dim], bias [bias_batch,
// bias_heads, tokens, tokens] or nullptr, y [batch, tokens, heads, head_dim].
struct AttentionProblem {
  int bias_batch, bias_heads;
  long long batch;
  int tokens, heads, head_dim;
  float scale;

  HeadQuantizer q, k, v;
  GroupBounds p_groups;
  const Step* p_steps;
  const float* p_outers;
  const unsigned char* levels;  // [256]

  // Operands, one matrix per head of every batch element.
  int row_bytes;    // head_dim, padded to a multiple of 32
  int token_bytes;  // tokens, likewise
  unsigned char *q_bytes, *k_bytes;  // [heads, tokens, row_bytes]
  unsigned char* v_bytes;            // [heads, head_dim, token_bytes]
  float *q_scale, *k_scale;          // [heads, tokens]
  float* v_scale;                    // [heads, head_dim]

  // Where shared memory is too small.
  unsigned char* buffers;
  int buffer_bytes;  // of one warp (q and k) or block
};

// Row `token` of q (part 0), k (1) or v (2) of a head.
template <typename T>
QC_DEVICE const T* head_row(const AttentionProblem& p, const T* qkv, int part, long long head, int token) {
  const long long b = head / p.heads, h = head % p.heads;
  return qkv + ((b * p.tokens + token) * 3 + part) * p.heads * p.head_dim + h * p.head_dim;
}

// ---- q and k -----------------------------------------------------------------------------------------------------

// One row by its group; the operands are signed bytes. Returns the outer scale.
QC_DEVICE float quantize_head_row(const HeadQuantizer& q, const float* row, int count, int lane, unsigned char* out) {
  float lower = INFINITY, upper = -INFINITY;
  for (int c = lane; c < count; c += kWarp) {
    lower = fminf(lower, row[c]);
    upper = fmaxf(upper, row[c]);
  }
  const int group = nearest_group_of_warp(warp_min(lower), warp_max(upper), q.groups, lane);
  const Step step = q.steps[group];
  for (int c = lane; c < count; c += kWarp) out[c] = static_cast<unsigned char>(static_cast<int>(centred_code(row[c], step)));
  return q.outers[group];
}

// A warp takes a row of q or k of one head.
template <bool kShared, typename T>
QC_KERNEL __launch_bounds__(kHeadThreads) quantize_queries_and_keys(AttentionProblem p, const T* qkv) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const long long first = static_cast<long long>(blockIdx.x) * kHeadWarps + warp;
  unsigned char* const memory = kShared ? shared_memory() + warp * p.buffer_bytes : p.buffers + first * p.buffer_bytes;
  float* const row = reinterpret_cast<float*>(memory);
  Step* const steps = reinterpret_cast<Step*>(row + (p.head_dim + 3) / 4 * 4);
  const long long count = 2 * p.batch * p.tokens * p.heads;
  for (long long i = first; i < count; i += static_cast<long long>(gridDim.x) * kHeadWarps) {
    // Neighbouring rows of memory are neighbouring heads of one token.
    const int h = static_cast<int>(i % p.heads), part = static_cast<int>(i / p.heads % 2);
    const long long token_of_all = i / p.heads / 2;
    const int token = static_cast<int>(token_of_all % p.tokens);
    const long long head = token_of_all / p.tokens * p.heads + h;
    const HeadQuantizer& quantizer = part == 0 ? p.q : p.k;
    const T* const x = head_row(p, qkv, part, head, token);
    const long long at = head * p.tokens + token;
    unsigned char* const out = (part == 0 ? p.q_bytes : p.k_bytes) + at * p.row_bytes;
    for (int c = p.head_dim + lane; c < p.row_bytes; c += kWarp) out[c] = 0;
    for (int c = lane; c < p.head_dim; c += kWarp) row[c] = load_value(x + c);
    sync_warp();
    float outer;
    if (quantizer.in_blocks) {
      outer = outer_scale(quantizer.blocks, block_ranges(row, p.head_dim, quantizer.blocks.block, steps, lane));
      quantize_block_row<1>(row, p.head_dim, quantizer.blocks, outer, steps, lane, out);
    } else {
      outer = quantize_head_row(quantizer, row, p.head_dim, lane, out);
    }
    if (lane == 0) {
      if (part == 0) {
        p.q_scale[at] = outer * p.scale;
      } else {
        p.k_scale[at] = outer;
      }
    }
  }
}

// ---- v -----------------------------------------------------------------------------------------------------------

// What a block that quantizes v needs, in this order.
struct ValueMemory {
  float* ranges;         // [2, warps, head_dim], or peaks [warps]
  Step* steps;           // [head_dim] of the channels, or of the blocks [warps, head_dim]
  float* rows;           // [warps, head_dim padded]
  unsigned char* tile;   // [kTokenTile, head_dim padded]

  static long long bytes(int head_dim) {
    const long long padded = (head_dim + 3LL) / 4 * 4;
    return 2LL * kHeadWarps * padded * 4 + kHeadWarps * padded * 16 + kHeadWarps * padded * 4 + kTokenTile * padded;
  }
  QC_HD static ValueMemory at(unsigned char* memory, int head_dim) {
    const int padded = (head_dim + 3) / 4 * 4;
    ValueMemory m;
    m.steps = reinterpret_cast<Step*>(memory);
    m.ranges = reinterpret_cast<float*>(m.steps + kHeadWarps * padded);
    m.rows = m.ranges + 2 * kHeadWarps * padded;
    m.tile = reinterpret_cast<unsigned char*>(m.rows + kHeadWarps * padded);
    return m;
  }
};

// Ranges of the channels of a head over all tokens; then the steps of their groups.
template <typename T>
QC_DEVICE void value_channel_steps(const AttentionProblem& p, const T* qkv, long long head, const ValueMemory& m,
                                   int lane, int warp) {
  const int padded = (p.head_dim + 3) / 4 * 4;
  for (int c = lane; c < p.head_dim; c += kWarp) {
    float lower = INFINITY, upper = -INFINITY;
    for (int token = warp; token < p.tokens; token += kHeadWarps) {
      const float v = load_value(head_row(p, qkv, 2, head, token) + c);
      lower = fminf(lower, v);
      upper = fmaxf(upper, v);
    }
    m.ranges[warp * padded + c] = lower;
    m.ranges[(kHeadWarps + warp) * padded + c] = upper;
  }
  sync_block();
  for (int c = static_cast<int>(threadIdx.x); c < p.head_dim; c += kHeadThreads) {
    float lower = m.ranges[c], upper = m.ranges[kHeadWarps * padded + c];
    for (int w = 1; w < kHeadWarps; ++w) {
      lower = fminf(lower, m.ranges[w * padded + c]);
      upper = fmaxf(upper, m.ranges[(kHeadWarps + w) * padded + c]);
    }
    const int group = nearest_group(lower, upper, p.v.groups);
    m.steps[c] = p.v.steps[group];
    p.v_scale[head * p.head_dim + c] = p.v.outers[group];
  }
  sync_block();
}

// One outer scale for all tokens of a head: from the largest magnitude.
template <typename T>
QC_DEVICE float value_scale(const AttentionProblem& p, const T* qkv, long long head, const ValueMemory& m, int lane,
                            int warp) {
  float peak = 0.0f;
  for (int token = warp; token < p.tokens; token += kHeadWarps) {
    const T* const x = head_row(p, qkv, 2, head, token);
    for (int c = lane; c < p.head_dim; c += kWarp) peak = fmaxf(fabsf(load_value(x + c)), peak);
  }
  peak = warp_max(peak);
  if (lane == 0) m.ranges[warp] = peak;
  sync_block();
  for (int w = 0; w < kHeadWarps; ++w) peak = fmaxf(m.ranges[w], peak);
  const float scale = outer_scale(p.v.blocks, peak);
  for (int c = static_cast<int>(threadIdx.x); c < p.head_dim; c += kHeadThreads) p.v_scale[head * p.head_dim + c] = scale;
  return scale;
}

// A block takes a head.
template <bool kShared, typename T>
QC_KERNEL __launch_bounds__(kHeadThreads) quantize_values(AttentionProblem p, const T* qkv) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  unsigned char* const memory =
      kShared ? shared_memory() : p.buffers + static_cast<long long>(blockIdx.x) * p.buffer_bytes;
  const ValueMemory m = ValueMemory::at(memory, p.head_dim);
  const int padded = (p.head_dim + 3) / 4 * 4;
  for (long long head = blockIdx.x; head < p.batch * p.heads; head += gridDim.x) {
    float scale = 0.0f;
    if (p.v.in_blocks) {
      scale = value_scale(p, qkv, head, m, lane, warp);
    } else {
      value_channel_steps(p, qkv, head, m, lane, warp);
    }
    for (int begin = 0; begin < p.token_bytes; begin += kTokenTile) {
      for (int i = warp; i < kTokenTile; i += kHeadWarps) {
        const int token = begin + i;
        unsigned char* const out = m.tile + i * padded;
        if (token >= p.tokens) {
          for (int c = lane; c < p.head_dim; c += kWarp) out[c] = 0;
          continue;
        }
        const T* const x = head_row(p, qkv, 2, head, token);
        if (p.v.in_blocks) {
          float* const row = m.rows + warp * padded;
          Step* const steps = m.steps + warp * padded;
          for (int c = lane; c < p.head_dim; c += kWarp) row[c] = load_value(x + c);
          sync_warp();
          block_ranges(row, p.head_dim, p.v.blocks.block, steps, lane);
          quantize_block_row<1>(row, p.head_dim, p.v.blocks, scale, steps, lane, out);
        } else {
          for (int c = lane; c < p.head_dim; c += kWarp) {
            out[c] = static_cast<unsigned char>(static_cast<int>(centred_code(load_value(x + c), m.steps[c])));
          }
        }
      }
      sync_block();
      // Four tokens of a channel are a word.
      constexpr int kWords = kTokenTile / 4;
      for (int i = static_cast<int>(threadIdx.x); i < p.head_dim * kWords; i += kHeadThreads) {
        const int c = i / kWords, word = i % kWords;
        unsigned bytes = 0;
        for (int k = 0; k < 4; ++k) bytes |= static_cast<unsigned>(m.tile[(4 * word + k) * padded + c]) << 8 * k;
        *reinterpret_cast<unsigned*>(p.v_bytes + (head * p.head_dim + c) * p.token_bytes + begin + 4 * word) = bytes;
      }
      sync_block();
    }
  }
}

// ---- Scores, softmax, output -------------------------------------------------------------------------------------

// Words from row to row, such that pairs of eight rows, or words of eight rows, fall on different banks.
QC_HD int score_stride(int token_bytes) { return token_bytes + 8; }
QC_HD int level_stride(int token_bytes) { return (token_bytes + 127) / 128 * 128 + 16; }

inline long long attend_bytes(int token_bytes) {
  return kAttendRows * (4LL * score_stride(token_bytes) + level_stride(token_bytes) + 4);
}

// Words of the left operand: 16 rows, 32 bytes.
QC_DEVICE void load_left(unsigned (&x)[4], const unsigned char* upper, const unsigned char* lower, int at) {
  x[0] = *reinterpret_cast<const unsigned*>(upper + at);
  x[1] = *reinterpret_cast<const unsigned*>(lower + at);
  x[2] = *reinterpret_cast<const unsigned*>(upper + at + 16);
  x[3] = *reinterpret_cast<const unsigned*>(lower + at + 16);
}

constexpr int kDepthAtOnce = 4;  // units of the depth whose left operands stay in registers

// Scores of kAttendRows rows from `row_begin` on, as sums or, behind the last part of the depth, as floats.
template <typename T>
QC_DEVICE void attend_scores(const AttentionProblem& p, const T* all_bias, long long head, int row_begin, float* scores,
                             int lane, int warp) {
  const int stride = score_stride(p.token_bytes);
  const unsigned char* const q = p.q_bytes + head * p.tokens * p.row_bytes;
  const unsigned char* const k = p.k_bytes + head * p.tokens * p.row_bytes;
  const int last = p.tokens - 1, in_row = word_begin(lane);
  const auto q_row = [&](int m) { return q + static_cast<long long>(min(row_begin + m, last)) * p.row_bytes; };
  const T* bias = nullptr;
  if (all_bias != nullptr) {
    const long long b = head / p.heads % p.bias_batch, h = p.bias_heads == 1 ? 0 : head % p.heads;
    bias = all_bias + (b * p.bias_heads + h) * p.tokens * p.tokens;
  }
  const int units = p.row_bytes / kProductDepth;
  for (int base = 0; base < units; base += kDepthAtOnce) {
    unsigned x[kDepthAtOnce][2][4];
#pragma unroll
    for (int u = 0; u < kDepthAtOnce; ++u) {
      if (base + u >= units) continue;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_left(x[u][i], q_row(16 * i + lane / 4), q_row(16 * i + 8 + lane / 4), (base + u) * kProductDepth + in_row);
      }
    }
    for (int column = 8 * warp; column < p.token_bytes; column += 8 * kAttendWarps) {
      const unsigned char* const k_row = k + static_cast<long long>(min(column + lane / 4, last)) * p.row_bytes + in_row;
      int sums[2][4] = {};
#pragma unroll
      for (int u = 0; u < kDepthAtOnce; ++u) {
        if (base + u >= units) continue;
        const unsigned w0 = *reinterpret_cast<const unsigned*>(k_row + (base + u) * kProductDepth);
        const unsigned w1 = *reinterpret_cast<const unsigned*>(k_row + (base + u) * kProductDepth + 16);
#pragma unroll
        for (int i = 0; i < 2; ++i) multiply_add<false>(sums[i], x[u][i], w0, w1);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int m = 16 * (i / 4) + sum_row(lane) + i % 4 / 2 * 8, n = column + sum_column(lane) + i % 2;
        int* const at = reinterpret_cast<int*>(scores) + m * stride + n;
        int sum = sums[i / 4][i % 4];
        if (base > 0) sum += *at;
        if (base + kDepthAtOnce < units) {
          *at = sum;
          continue;
        }
        const int row = min(row_begin + m, last), token = min(n, last);
        float v = static_cast<float>(sum) * p.q_scale[head * p.tokens + row] * p.k_scale[head * p.tokens + token];
        if (bias != nullptr) v += load_value(bias + static_cast<long long>(row) * p.tokens + token);
        *reinterpret_cast<float*>(at) = v;
      }
    }
  }
}

// One row of scores to the operands of its probabilities; returns their outer scale.
QC_DEVICE float attend_row(const AttentionProblem& p, float* scores, unsigned char* levels, int lane) {
  float peak = -INFINITY;
  for (int n = lane; n < p.tokens; n += kWarp) peak = fmaxf(peak, scores[n]);
  peak = warp_max(peak);
  double sum = 0.0;
  float low = 1.0f, high = 0.0f;
  for (int n = lane; n < p.tokens; n += kWarp) {
    const float e = exponential(scores[n] - peak);
    scores[n] = e;
    sum += e;
    low = fminf(low, e);
    high = fmaxf(high, e);
  }
  // Multiplying keeps the order, so the range of the row is the scaled range of the exponentials.
  const float factor = static_cast<float>(1.0 / warp_sum(sum));
  const int group = nearest_group_of_warp(warp_min(low) * factor, warp_max(high) * factor, p.p_groups, lane);
  const Step step = p.p_steps[group];
  for (int n = lane; n < p.token_bytes; n += kWarp) {
    levels[n] = n < p.tokens ? p.levels[static_cast<int>(centred_code(scores[n] * factor, step))] : 0;
  }
  return p.p_outers[group];
}

// The product of kAttendRows rows of levels with v.
template <typename T>
QC_DEVICE void attend_values(const AttentionProblem& p, T* y, long long head, int row_begin, const unsigned char* levels,
                             const float* row_scale, int lane, int warp) {
  const int stride = level_stride(p.token_bytes), in_row = word_begin(lane);
  const unsigned char* const v = p.v_bytes + head * p.head_dim * p.token_bytes;
  const unsigned char* rows[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) rows[i] = levels + (8 * i + lane / 4) * stride;
  const long long b = head / p.heads, h = head % p.heads;
  for (int column = 16 * warp; column < p.head_dim; column += 16 * kAttendWarps) {
    const unsigned char* columns[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      columns[j] = v + static_cast<long long>(min(column + 8 * j + lane / 4, p.head_dim - 1)) * p.token_bytes + in_row;
    }
    int sums[2][2][4] = {};
    for (int depth = 0; depth < p.token_bytes; depth += kProductDepth) {
      unsigned x[2][4], w[2][2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_left(x[i], rows[2 * i], rows[2 * i + 1], depth + in_row);
        w[i][0] = *reinterpret_cast<const unsigned*>(columns[i] + depth);
        w[i][1] = *reinterpret_cast<const unsigned*>(columns[i] + depth + 16);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) multiply_add<true>(sums[i][j], x[i], w[j][0], w[j][1]);
      }
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int m = 16 * (i / 8) + sum_row(lane) + i % 4 / 2 * 8;
      const int n = column + 8 * (i / 4 % 2) + sum_column(lane) + i % 2;
      if (row_begin + m >= p.tokens || n >= p.head_dim) continue;
      store_value(y + ((b * p.tokens + row_begin + m) * p.heads + h) * p.head_dim + n,
                  static_cast<float>(sums[i / 8][i / 4 % 2][i % 4]) * row_scale[m] * p.v_scale[head * p.head_dim + n]);
    }
  }
}

// A block takes kAttendRows rows of a head.
template <bool kShared, typename T>
QC_KERNEL __launch_bounds__(kAttendThreads) attend(AttentionProblem p, const T* bias, T* y) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  unsigned char* const memory =
      kShared ? shared_memory() : p.buffers + static_cast<long long>(blockIdx.x) * p.buffer_bytes;
  float* const scores = reinterpret_cast<float*>(memory);
  unsigned char* const levels = memory + kAttendRows * score_stride(p.token_bytes) * 4;
  float* const row_scale = reinterpret_cast<float*>(levels + kAttendRows * level_stride(p.token_bytes));
  const int down = (p.tokens + kAttendRows - 1) / kAttendRows;
  for (long long task = blockIdx.x; task < p.batch * p.heads * down; task += gridDim.x) {
    const long long head = task / down;
    const int row_begin = static_cast<int>(task % down) * kAttendRows;
    attend_scores(p, bias, head, row_begin, scores, lane, warp);
    sync_block();
    for (int m = warp; m < kAttendRows; m += kAttendWarps) {
      const float outer = attend_row(p, scores + m * score_stride(p.token_bytes),
                                     levels + m * level_stride(p.token_bytes), lane);
      if (lane == 0) row_scale[m] = outer;
    }
    sync_block();
    attend_values(p, y, head, row_begin, levels, row_scale, lane, warp);
  }
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_ATTENTION_CUH_
