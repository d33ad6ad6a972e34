// Error text of the public interface.
#ifndef QCOMPILER_CPU_ERROR_H_
#define QCOMPILER_CPU_ERROR_H_

#include "kernels.h"

namespace qcompiler {
namespace cpu {

// Formats one line (printf rules, truncated at 255 characters) into a buffer of this thread and returns it.
Status error(const char* format, ...) noexcept __attribute__((format(printf, 1, 2)));

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_ERROR_H_
