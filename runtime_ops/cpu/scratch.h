// Lays out scratch memory. The same layout code runs twice: over nothing, to count bytes, and over the memory of the
// caller, to hand out pointers; so the two cannot disagree.
#ifndef QCOMPILER_CPU_SCRATCH_H_
#define QCOMPILER_CPU_SCRATCH_H_

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace qcompiler {
namespace cpu {

constexpr std::ptrdiff_t round_up(std::ptrdiff_t value, std::ptrdiff_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

class Arena {
 public:
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  // `count` objects, aligned to a cache line; nullptr while counting.
  template <typename T>
  T* take(std::ptrdiff_t count) {
    char* const at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += static_cast<std::size_t>(
        round_up(count * static_cast<std::ptrdiff_t>(sizeof(T)), static_cast<std::ptrdiff_t>(kScratchAlignment)));
    return reinterpret_cast<T*>(at);
  }

  std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_SCRATCH_H_
