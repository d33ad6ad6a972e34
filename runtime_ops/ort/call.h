// One call of a kernel: its inputs, its output, scratch memory and the session's threads.
#ifndef QCOMPILER_ORT_CALL_H_
#define QCOMPILER_ORT_CALL_H_

#include <atomic>

#include "cpu/kernels.h"
#include "ort/api.h"

namespace qcompiler {
namespace ort {

// Into how many pieces a kernel splits its work.
//
// The runtime does not tell how many threads a session has. A kernel starts with one piece per processor; when several
// calls in a row were worked on by the calling thread alone, it stops splitting and tries again only now and then.
class Pieces {
 public:
  int next() noexcept;
  void shared() noexcept { alone_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> alone_{0};  // calls since another thread was last seen
};

class Call {
 public:
  Call(OrtKernelContext* context, Pieces& pieces);

  Tensor input(std::size_t index) const;
  // The only output; T is float or cpu::Half, the operator's type of activations.
  template <typename T>
  T* output(const Shape& shape) const {
    return static_cast<T*>(output_data(shape));
  }
  cpu::Parallel parallel() noexcept;
  OrtKernelContext* context() const noexcept { return context_; }

 private:
  void* output_data(const Shape& shape) const;
  static void parallel_for(void* self, std::size_t count, void (*fn)(void*, std::size_t), void* arg);

  OrtKernelContext* context_;
  Pieces& pieces_;
  int threads_;
};

// Aligned memory from the session's allocator, given back at the end of the scope.
class Scratch {
 public:
  Scratch(const Call& call, std::size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const noexcept { return aligned_; }

 private:
  OrtAllocator* allocator_ = nullptr;
  void* memory_ = nullptr;
  void* aligned_ = nullptr;
};

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_CALL_H_
