#include "ort/call.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace qcompiler {
namespace ort {
namespace {

constexpr std::uint32_t kPatience = 8;   // calls alone before the work is no longer split
constexpr std::uint32_t kRetry = 128;    // then every so many calls it is split again, to look for new threads
constexpr int kMostPieces = 64;

// Processors that this process may use.
int processors() noexcept {
  static const int count = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    const int usable = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return std::max(1, std::min(usable, kMostPieces));
  }();
  return count;
}

const OrtMemoryInfo* cpu_memory() {
  static const OrtMemoryInfo* const info = [] {
    OrtMemoryInfo* created = nullptr;
    check(api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &created));
    return created;
  }();
  return info;
}

}  // namespace

int Pieces::next() noexcept {
  const std::uint32_t calls = alone_.fetch_add(1, std::memory_order_relaxed);
  return calls < kPatience || calls % kRetry == 0 ? processors() : 1;
}

Call::Call(OrtKernelContext* context, Pieces& pieces) : context_(context), pieces_(pieces), threads_(pieces.next()) {}

Tensor Call::input(std::size_t index) const {
  const OrtValue* value = nullptr;
  check(api().KernelContext_GetInput(context_, index, &value));
  return view(value);
}

void* Call::output_data(const Shape& shape) const {
  OrtValue* value = nullptr;
  check(api().KernelContext_GetOutput(context_, 0, shape.data(), shape.size(), &value));
  void* data = nullptr;
  check(api().GetTensorMutableData(value, &data));
  return data;
}

cpu::Parallel Call::parallel() noexcept {
  cpu::Parallel parallel;
  parallel.parallel_for = &Call::parallel_for;
  parallel.ctx = this;
  parallel.threads = threads_;
  return parallel;
}

void Call::parallel_for(void* self, std::size_t count, void (*fn)(void*, std::size_t), void* arg) {
  const auto& call = *static_cast<const Call*>(self);
  struct Work {
    void (*fn)(void*, std::size_t);
    void* arg;
    std::thread::id caller;
    std::atomic<bool> shared;
  } work{fn, arg, std::this_thread::get_id(), {false}};
  const auto run = [](void* data, std::size_t index) {
    auto& mine = *static_cast<Work*>(data);
    if (std::this_thread::get_id() != mine.caller) mine.shared.store(true, std::memory_order_relaxed);
    mine.fn(mine.arg, index);
  };
  OrtStatus* status = count > 1 ? api().KernelContext_ParallelFor(call.context_, run, count, 0, &work) : nullptr;
  if (count <= 1 || status) {  // a refusal comes before any work was done
    if (status) api().ReleaseStatus(status);
    for (std::size_t i = 0; i < count; ++i) fn(arg, i);
  }
  if (work.shared.load(std::memory_order_relaxed)) call.pieces_.shared();
}

Scratch::Scratch(const Call& call, std::size_t bytes) {
  if (bytes == 0) return;
  check(api().KernelContext_GetAllocator(call.context(), cpu_memory(), &allocator_));
  memory_ = allocator_->Alloc(allocator_, bytes + cpu::kScratchAlignment);
  if (!memory_) {
    api().ReleaseAllocator(allocator_);
    throw Error("out of memory: " + std::to_string(bytes) + " bytes of scratch memory");
  }
  const auto address = reinterpret_cast<std::uintptr_t>(memory_);
  aligned_ = reinterpret_cast<void*>((address + cpu::kScratchAlignment - 1) / cpu::kScratchAlignment * cpu::kScratchAlignment);
}

Scratch::~Scratch() {
  if (!allocator_) return;
  allocator_->Free(allocator_, memory_);
  api().ReleaseAllocator(allocator_);
}

}  // namespace ort
}  // namespace qcompiler
