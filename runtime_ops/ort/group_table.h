// Checks of a group quantizer's table, so that the kernels may rely on what the operators' definition promises.
#ifndef QCOMPILER_ORT_GROUP_TABLE_H_
#define QCOMPILER_ORT_GROUP_TABLE_H_

#include "cpu/kernels.h"
#include "ort/kernel_info.h"

namespace qcompiler {
namespace ort {

// How the rows of a table turn codes into operands and operands into values.
enum class TableUse {
  kRows,           // multiplier = 1, outer = scale: the scale multiplies a row of the product; any zero point
  kSignedBytes,    // the same, and code - zero_point fits a signed byte: q, k and v of attention
  kMultiples,      // integer multiplier, one outer scale for all groups
  kSegments,       // multiplier = scale, outer = 1
  kProbabilities,  // non-negative levels: zero_point = 0, multiplier = 1, outer free
};

// Reads the constant input `index` as a table [groups, 6] and checks it for codes of `bits` bits.
cpu::GroupTable group_table(const KernelInfo& info, std::size_t index, const char* name, TableUse use, int bits);

// The attribute `bits`, 1 to 8.
int bits_attribute(const KernelInfo& info);

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_GROUP_TABLE_H_
