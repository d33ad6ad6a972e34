#include "ort/group_table.h"

#include <algorithm>
#include <cmath>

namespace qcompiler {
namespace ort {
namespace {

constexpr std::int64_t kColumns = 6;
constexpr float kOperandLimit = 127.0f;

struct Row {
  float lower, upper, scale, zero_point, multiplier, outer;
};

// Two float32 products of the same numbers, taken in another order or width.
bool close(float a, float b) { return std::fabs(a - b) <= 1e-6f * std::fabs(b); }

// What is wrong with one row of the table, or an empty string.
std::string fault(const Row& row, const Row& first, TableUse use, int bits) {
  const float top = static_cast<float>((1 << bits) - 1);
  if (!std::isfinite(row.lower) || !std::isfinite(row.upper)) return "its bounds are not finite";
  if (!std::isfinite(row.scale) || row.scale <= 0 || !std::isfinite(1.0f / row.scale)) {
    return "scale is " + text(row.scale) + ", expected a positive number with a finite inverse";
  }
  if (!(row.outer > 0) || !std::isfinite(row.outer)) return "outer is " + text(row.outer) + ", expected a positive number";
  if (use == TableUse::kProbabilities) {
    if (row.zero_point != 0) return "zero_point is " + text(row.zero_point) + ", expected 0 for probabilities";
    return "";
  }
  if (row.zero_point != std::rint(row.zero_point) || row.zero_point < 0 || row.zero_point > top) {
    return "zero_point is " + text(row.zero_point) + ", expected an integer from 0 to " + text(top);
  }
  float reach = std::max(row.zero_point, top - row.zero_point);
  switch (use) {
    case TableUse::kRows:
    case TableUse::kSignedBytes:
      if (row.multiplier != 1) return "multiplier is " + text(row.multiplier) + ", expected 1 for this axis";
      if (!close(row.outer, row.scale)) return "outer is " + text(row.outer) + ", expected the scale " + text(row.scale);
      break;
    case TableUse::kMultiples:
      if (row.multiplier != std::rint(row.multiplier) || row.multiplier < 1) {
        return "multiplier is " + text(row.multiplier) + ", expected a positive integer (or segments=1)";
      }
      if (row.outer != first.outer) return "outer is " + text(row.outer) + ", expected one outer scale for all groups, " + text(first.outer);
      if (!close(row.scale, row.outer * row.multiplier)) return "scale is " + text(row.scale) + ", expected outer * multiplier";
      reach *= row.multiplier;
      break;
    case TableUse::kSegments:
      if (row.outer != 1) return "outer is " + text(row.outer) + ", expected 1 with segments=1";
      if (row.multiplier != row.scale) return "multiplier is " + text(row.multiplier) + ", expected the scale " + text(row.scale);
      break;
    case TableUse::kProbabilities:
      break;
  }
  // Code 0 of a symmetric 8-bit quantizer of attention is the one operand that saturates, from -128 to -127.
  const bool symmetric_byte = use == TableUse::kSignedBytes && bits == 8 && row.zero_point == 128;
  const bool limited = use == TableUse::kMultiples || use == TableUse::kSignedBytes;
  if (limited && reach > kOperandLimit && !symmetric_byte) return "operands reach " + text(reach) + ", more than 127";
  return "";
}

}  // namespace

cpu::GroupTable group_table(const KernelInfo& info, std::size_t index, const char* name, TableUse use, int bits) {
  const Tensor tensor = info.constant(index, name);
  const std::string input = std::string("input '") + name + "'";
  if (tensor.shape.size() != 2 || tensor.shape[0] < 1 || tensor.shape[1] != kColumns) {
    throw Error(input + " has shape " + text(tensor.shape) + ", expected [groups, 6]");
  }
  const Row* rows = static_cast<const Row*>(tensor.data);
  const auto count = static_cast<std::int32_t>(tensor.shape[0]);
  for (std::int32_t i = 0; i < count; ++i) {
    const std::string wrong = fault(rows[i], rows[0], use, bits);
    if (!wrong.empty()) throw Error(input + ", group " + std::to_string(i) + ": " + wrong);
  }
  cpu::GroupTable table;
  table.data = tensor.floats();
  table.count = count;
  return table;
}

int bits_attribute(const KernelInfo& info) {
  const std::int64_t bits = info.integer("bits");
  if (bits < 1 || bits > 8) throw Error("attribute 'bits' is " + std::to_string(bits) + ", expected 1 to 8");
  return static_cast<int>(bits);
}

}  // namespace ort
}  // namespace qcompiler
