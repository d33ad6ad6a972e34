// How long the int16 sums of a saturating product may run, from the weights themselves.
//
// The left operand is in [0, max_a]. A sum of products over a set of weights then lies between max_a times the sum
// of the negative and max_a times the sum of the positive ones: far closer than the largest operands of both sides
// allow.
#ifndef QCOMPILER_CPU_WINDOWS_H_
#define QCOMPILER_CPU_WINDOWS_H_

#include <cstdint>
#include <vector>

#include "pack.h"

namespace qcompiler {
namespace cpu {

// The cheapest format in which `path` is exact for u8 operands up to max_a and these weights [k, n], `largest` their
// largest magnitude.
PanelFormat choose_weight_format(const Path& path, int max_a, const std::int8_t* weights, std::int64_t k,
                                 std::int64_t n, int largest);

// Panels::windows of `count` packed panels; empty where they would not help. May throw std::bad_alloc.
std::vector<std::uint8_t> choose_windows(const Path& path, int max_a, const Panels& panels, std::int64_t count);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_WINDOWS_H_
