// A group table prepared for the stages: one array per column, clip bounds and the byte offset of the left operand.
#ifndef QCOMPILER_CPU_QUANTIZER_H_
#define QCOMPILER_CPU_QUANTIZER_H_

#include <cstdint>
#include <vector>

#include "path.h"

namespace qcompiler {
namespace cpu {

// How a table is turned into the bytes of an integer product.
enum class Operand {
  kCode,      // u8 code q; the product is corrected by the zero point
  kUnsigned,  // u8, clip(q - zero_point, -127, 127) shifted to start at 0
  kSigned,    // s8, clip(q - zero_point, -127, 127)
  kMultiple,  // u8, clip(multiplier * (q - zero_point), -127, 127), shifted by one offset for all groups
};

struct GroupQuantizer {
  // Arrays of `count` entries, padded to a multiple of 16.
  std::vector<float> lower, upper, scale, inverse, multiplier, outer, low, high;
  std::vector<std::int32_t> offset;  // byte = operand + offset
  std::vector<RowQuantizer> rows;
  std::int32_t count = 0;
  int max_byte = 0;       // largest stored byte (u8), or largest magnitude (kSigned)
  int max_magnitude = 0;  // largest |operand|

  GroupColumns columns() const { return {lower.data(), upper.data(), count}; }

  // `name` is how error messages call the table. May throw std::bad_alloc.
  Status prepare(const GroupTable& table, int bits, Operand operand, const char* name);

  // The table of the probabilities: codes 0 .. levels - 1, no zero point.
  Status prepare_levels(const GroupTable& table, int levels, const char* name);

 private:
  Status read(const GroupTable& table, const char* name);
};

// Rows in blocks; `operand` is kUnsigned or kSigned. Whether the blocks divide the rows is for the caller to check.
Status prepare_blocks(const BlockSpec& spec, Operand operand, const char* name, BlockQuantizer* quantizer);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_QUANTIZER_H_
