// Packing of the right operand into panels (see Panels in path.h).
#ifndef QCOMPILER_CPU_PACK_H_
#define QCOMPILER_CPU_PACK_H_

#include <cstddef>
#include <cstdint>

#include "path.h"

namespace qcompiler {
namespace cpu {

struct PanelFormat {
  int depth_multiple = 4;
  int period = 1;
  bool wide = false;

  std::int32_t depth(std::int64_t k) const;
  std::ptrdiff_t stride(std::int64_t k) const;                 // bytes of one panel
  std::ptrdiff_t bytes(std::int64_t k, std::int64_t n) const;  // bytes of all panels
  Panels panels(const void* data, std::int64_t k) const;
};

// The cheapest format in which `path` is exact for u8 operands up to max_a and s8 operands up to max_b in magnitude.
PanelFormat choose_format(const Path& path, int max_a, int max_b);

// Distance of the rows of A. Not a multiple of 512 bytes, where many rows would compete for few cache sets.
std::ptrdiff_t left_stride(std::int64_t k);

// b[k, n] at b[rows[k] * ld + n] (rows == nullptr: k * ld); rows[k] < 0 is a row of zeros.
void pack_rows(const std::int8_t* b, std::ptrdiff_t ld, const std::int32_t* rows, std::int64_t k, std::int64_t n,
               const PanelFormat& format, void* out);

// b[k, n] at b[n * ld + k].
void pack_transposed(const std::int8_t* b, std::ptrdiff_t ld, std::int64_t k, std::int64_t n,
                     const PanelFormat& format, void* out);

// int4 [count], low nibble first, to int8.
void unpack_int4(const std::uint8_t* packed, std::int64_t count, std::int8_t* out);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_PACK_H_
