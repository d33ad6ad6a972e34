// The attributes of a quantizer in blocks of each token.
#ifndef QCOMPILER_ORT_BLOCK_ATTRIBUTES_H_
#define QCOMPILER_ORT_BLOCK_ATTRIBUTES_H_

#include "cpu/kernels.h"
#include "ort/kernel_info.h"

namespace qcompiler {
namespace ort {

// `bits` (under this name), `block`, `clip` and `slack`. `block` is read and not checked: only the caller knows what it
// must divide.
cpu::BlockSpec block_attributes(const KernelInfo& info, const char* bits);

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_BLOCK_ATTRIBUTES_H_
