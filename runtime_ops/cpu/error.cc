#include "error.h"

#include <cstdarg>
#include <cstdio>

namespace qcompiler {
namespace cpu {

Status error(const char* format, ...) noexcept {
  // Per thread: two sessions may fail at the same time.
  static thread_local char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

}  // namespace cpu
}  // namespace qcompiler
