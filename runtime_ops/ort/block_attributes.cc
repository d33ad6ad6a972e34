#include "ort/block_attributes.h"

namespace qcompiler {
namespace ort {

cpu::BlockSpec block_attributes(const KernelInfo& info, const char* bits) {
  cpu::BlockSpec spec;
  const std::int64_t width = info.integer(bits);
  if (width < 2 || width > 7) {
    throw Error(std::string("attribute '") + bits + "' is " + std::to_string(width) + ", expected 2 to 7");
  }
  spec.bits = static_cast<int>(width);
  spec.block = info.integer("block");
  spec.clip = info.number("clip");
  if (!(spec.clip > 0 && spec.clip <= 1)) {
    throw Error("attribute 'clip' is " + text(spec.clip) + ", expected a number above 0 and up to 1");
  }
  spec.slack = info.number("slack");
  if (!(spec.slack >= 0 && spec.slack <= 0.5f)) {
    throw Error("attribute 'slack' is " + text(spec.slack) + ", expected a number from 0 to 0.5");
  }
  return spec;
}

}  // namespace ort
}  // namespace qcompiler
