// Device memory: constants of operators, and scratch memory that the calls of a stream share.
#ifndef QCOMPILER_CUDA_MEMORY_H_
#define QCOMPILER_CUDA_MEMORY_H_

#include <cstring>
#include <mutex>
#include <vector>

#include "../cpu/scratch.h"
#include "device.h"

namespace qcompiler {
namespace cuda {

// Constants are laid out on the host and copied at once. Offsets before, addresses after `upload`.
class Constants {
 public:
  Constants() = default;
  ~Constants();
  Constants(const Constants&) = delete;
  Constants& operator=(const Constants&) = delete;

  // Room for `count` values, filled with zeros; returns where it is. May throw std::bad_alloc.
  template <typename T>
  std::size_t add(const T* values, std::size_t count, std::size_t padded) {
    const std::size_t at = bytes_.size();
    const std::size_t size = static_cast<std::size_t>(cpu::round_up(static_cast<std::ptrdiff_t>(padded * sizeof(T)), 256));
    bytes_.resize(at + size, 0);
    if (count > 0) std::memcpy(bytes_.data() + at, values, count * sizeof(T));
    return at;
  }
  template <typename T>
  std::size_t add(const std::vector<T>& values) {
    return add(values.data(), values.size(), values.size());
  }

  Status upload();

  template <typename T>
  const T* at(std::size_t offset) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(memory_) + offset);
  }

 private:
  std::vector<char> bytes_;
  void* memory_ = nullptr;
};

// Scratch memory of one call. What a stream does, it does in order: all calls on a stream use the same memory, and no
// call waits for another one. While this object lives nobody else may put work on the stream.
//
// Memory only grows, and what was outgrown is kept as long as an operator lives: work that still runs, and captured
// graphs, go on using it.
class Workspace {
 public:
  Workspace(int device, cudaStream_t stream, std::size_t bytes);

  Status status() const { return status_; }
  void* data() const { return data_; }

 private:
  std::unique_lock<std::mutex> lock_;
  Status status_ = nullptr;
  void* data_ = nullptr;
};

// Every operator holds one; the last one frees all scratch memory.
class WorkspaceUser {
 public:
  WorkspaceUser();
  ~WorkspaceUser();
  WorkspaceUser(const WorkspaceUser&) = delete;
  WorkspaceUser& operator=(const WorkspaceUser&) = delete;
};

// The device of an operator, current on this thread until the end of the scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    cudaGetDevice(&before_);
    if (before_ != device) cudaSetDevice(device);
    changed_ = before_ != device;
  }
  ~CurrentDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// What the choice of a kernel depends on.
struct DeviceLimits {
  int processors = 1;
  std::size_t shared_bytes = 48 * 1024;  // of one block

  static Status read(int device, DeviceLimits* limits);
};

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_MEMORY_H_
