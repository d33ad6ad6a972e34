// Activations whose channels have groups, anew for every instance: ranges of the channels over all rows, their groups,
// the order of the channels where each group is a product of its own, and the operands.
#ifndef QCOMPILER_CUDA_CHANNELS_CUH_
#define QCOMPILER_CUDA_CHANNELS_CUH_

#include "activations.cuh"
#include "fragments.h"
#include "warp.h"

namespace qcompiler {
namespace cuda {

constexpr int kRangeThreads = 128;

// What is quantized, x [instances, rows, channels], are prepared rows, or the activations where nothing is to prepare.
struct Channels {
  const float* norm;  // [instances * rows] of the rows, or nullptr: 1
  long long instances;
  int rows;
  int channels;

  GroupBounds groups;
  const Step* steps;
  const int* zero_points;
  float outer;  // of all groups

  int parts;      // of the rows of an instance, for the ranges
  float* ranges;  // [instances * parts, 2, channels]
  int* index;     // [instances, channels] group of every channel

  // Sorted channels, or nullptr: every channel stays where it is.
  int* order;  // [instances, stride] channel of every position, or -1
  int* begin;  // [instances, groups + 1] first position of every group

  unsigned char* operand;  // [instances * rows, stride]
  int stride;
  float* row_outer;  // [instances * rows]
};

// Ranges over the rows of one part; a thread has a channel.
template <typename T>
QC_KERNEL __launch_bounds__(kRangeThreads) channel_ranges(Channels p, const T* x) {
  const long long instance = blockIdx.x / static_cast<unsigned>(p.parts);
  const int part = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.parts));
  const int begin = static_cast<int>(static_cast<long long>(p.rows) * part / p.parts);
  const int end = static_cast<int>(static_cast<long long>(p.rows) * (part + 1) / p.parts);
  for (int c = static_cast<int>(blockIdx.y * kRangeThreads + threadIdx.x); c < p.channels;
       c += static_cast<int>(gridDim.y) * kRangeThreads) {
    float lower = INFINITY, upper = -INFINITY;
    const T* from = x + (instance * p.rows + begin) * p.channels + c;
    for (int m = begin; m < end; ++m, from += p.channels) {
      const float v = load_value(from);
      lower = fminf(lower, v);
      upper = fmaxf(upper, v);
    }
    float* const out = p.ranges + static_cast<long long>(blockIdx.x) * 2 * p.channels;
    out[c] = lower;
    out[p.channels + c] = upper;
  }
}

QC_KERNEL __launch_bounds__(kRangeThreads) assign_channels(Channels p) {
  const long long count = p.instances * p.channels;
  for (long long i = static_cast<long long>(blockIdx.x) * kRangeThreads + threadIdx.x; i < count;
       i += static_cast<long long>(gridDim.x) * kRangeThreads) {
    const float* range = p.ranges + i / p.channels * p.parts * 2 * p.channels + i % p.channels;
    float lower = INFINITY, upper = -INFINITY;
    for (int part = 0; part < p.parts; ++part, range += 2 * p.channels) {
      lower = fminf(lower, range[0]);
      upper = fmaxf(upper, range[p.channels]);
    }
    p.index[i] = nearest_group(lower, upper, p.groups);
  }
}

// Positions that all groups take at most: each starts where a product can.
inline long long sorted_depth(long long channels, long long groups) {
  return channels + (groups < channels ? groups : channels) * (kProductDepth - 1);
}

// A counting sort, the channels of a group in their own order. One warp per instance: channels come 32 at a time, and
// those of one group know their places among themselves by the lanes before them.
QC_KERNEL __launch_bounds__(kWarp) sort_channels(Channels p) {
  const int lane = static_cast<int>(threadIdx.x);
  const long long instance = blockIdx.x;
  const int* const index = p.index + instance * p.channels;
  int* const order = p.order + instance * p.stride;
  int* const begin = p.begin + instance * (p.groups.count + 1);
  for (int g = lane; g <= p.groups.count; g += kWarp) begin[g] = 0;
  for (int i = lane; i < p.stride; i += kWarp) order[i] = -1;
  sync_warp();
  // Twice over the channels: first begin[g + 1] counts the channels of g, then it says where the next one goes.
  for (int pass = 0; pass < 2; ++pass) {
    for (int base = 0; base < p.channels; base += kWarp) {
      const int c = base + lane;
      const int g = c < p.channels ? index[c] : -1;
      const unsigned same = match_any(g);
      const int before = __popc(same & ((1u << lane) - 1u));
      const int next = g >= 0 ? begin[g + 1] : 0;
      sync_warp();
      if (pass == 1 && g >= 0) order[next + before] = c;
      if (g >= 0 && before == 0) begin[g + 1] = next + __popc(same);
      sync_warp();
    }
    if (lane == 0) {
      // From counts to starts; and back from ends to starts, which are the ends of the groups before, rounded up.
      int start = 0;
      for (int g = 0; g < p.groups.count; ++g) {
        const int value = begin[g + 1];
        begin[g + 1] = pass == 0 ? start : (value + kProductDepth - 1) / kProductDepth * kProductDepth;
        if (pass == 0) start = (start + value + kProductDepth - 1) / kProductDepth * kProductDepth;
      }
    }
    sync_warp();
  }
}

// Four neighbouring operands of a row are one thread's. Multiples of s8, or, sorted, codes of u8.
template <typename T>
QC_KERNEL __launch_bounds__(256) quantize_channels(Channels p, const T* x) {
  const int words = p.stride / 4;
  const long long count = p.instances * p.rows * words;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<long long>(gridDim.x) * blockDim.x) {
    const long long m = i / words;
    const int first = static_cast<int>(i % words) * 4;
    const long long instance = m / p.rows;
    const int* const index = p.index + instance * p.channels;
    unsigned word = 0;
    for (int k = 0; k < 4; ++k) {
      int c = first + k;
      if (p.order != nullptr) c = p.order[instance * p.stride + c];
      if (c < 0 || c >= p.channels) continue;
      const int group = index[c];
      const float v = load_value(x + m * p.channels + c);
      const Step step = p.steps[group];
      const int value = p.order != nullptr ? static_cast<int>(centred_code(v, step)) + p.zero_points[group]
                                           : multiplied_operand(v, step);
      word |= (static_cast<unsigned>(value) & 255u) << 8 * k;
    }
    *reinterpret_cast<unsigned*>(p.operand + m * p.stride + first) = word;
    if (first == 0) p.row_outer[m] = p.outer * (p.norm != nullptr ? p.norm[m] : 1.0f);
  }
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_CHANNELS_CUH_
