// Reductions over a warp: every lane gets the result, and the order of the additions is always the same.
#ifndef QCOMPILER_CUDA_WARP_H_
#define QCOMPILER_CUDA_WARP_H_

#include "arithmetic.h"

namespace qcompiler {
namespace cuda {

template <typename T>
QC_DEVICE T warp_sum(T value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
QC_DEVICE float warp_min(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fminf(value, shuffle_xor(value, mask));
  return value;
}
QC_DEVICE float warp_max(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

// Bounds of the groups of a table.
struct GroupBounds {
  const float *lower, *upper;
  int count;
};

constexpr int kNoGroup = 0x7fffffff;

// The group nearest to a range, the lowest one on ties: one thread.
QC_DEVICE int nearest_group(float lower, float upper, const GroupBounds& groups) {
  float best = INFINITY;
  int winner = 0;
  for (int g = 0; g < groups.count; ++g) {
    const float distance = group_distance(lower, upper, groups.lower[g], groups.upper[g]);
    if (distance < best) {
      best = distance;
      winner = g;
    }
  }
  return winner;
}

// The same by a warp whose lanes all have the range.
QC_DEVICE int nearest_group_of_warp(float lower, float upper, const GroupBounds& groups, int lane) {
  float best = INFINITY;
  int winner = kNoGroup;
  for (int g = lane; g < groups.count; g += kWarp) {
    const float distance = group_distance(lower, upper, groups.lower[g], groups.upper[g]);
    if (distance < best) {
      best = distance;
      winner = g;
    }
  }
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(best, mask);
    const int candidate = shuffle_xor(winner, mask);
    if (other < best || (other == best && candidate < winner)) {
      best = other;
      winner = candidate;
    }
  }
  return winner == kNoGroup ? 0 : winner;  // no distance is a number
}

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_WARP_H_
