#include <algorithm>
#include <cmath>
#include <limits>

#include "reference.h"

namespace qcompiler {
namespace reference {

Group group_at(const cpu::GroupTable& table, int index) {
  const float* row = table.data + 6 * index;
  return Group{row[0], row[1], row[2], row[3], row[4], row[5]};
}

int assign_group(float lower, float upper, const cpu::GroupTable& table) {
  int winner = 0;
  float best = std::numeric_limits<float>::infinity();
  for (int g = 0; g < table.count; ++g) {
    const Group group = group_at(table, g);
    const float above = upper - group.upper;
    const float below = lower - group.lower;
    const float distance = above * above + below * below;
    if (distance < best) {
      best = distance;
      winner = g;
    }
  }
  return winner;
}

float quantize(float x, const Group& group, float top) {
  const float code = std::rint(x * (1.0f / group.scale)) + group.zero_point;
  if (!(code > 0.0f)) return 0.0f;  // NaN, too
  return std::min(code, top);
}

std::int32_t signed_operand(float code, const Group& group) {
  return static_cast<std::int32_t>(std::min(std::max(code - group.zero_point, -127.0f), 127.0f));
}

std::int32_t multiplied_operand(float code, const Group& group) {
  const float operand = group.multiplier * (code - group.zero_point);
  return static_cast<std::int32_t>(std::min(std::max(operand, -127.0f), 127.0f));
}

}  // namespace reference
}  // namespace qcompiler
