// Table look-up of bytes, one at a time.

namespace qcompiler {
namespace cpu {
namespace {

QC_KERNEL void map_bytes(std::uint8_t* data, std::ptrdiff_t ld, int rows, int cols, const std::uint8_t* table, int) {
  for (int m = 0; m < rows; ++m, data += ld) {
    for (int c = 0; c < cols; ++c) data[c] = table[data[c]];
  }
}

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
