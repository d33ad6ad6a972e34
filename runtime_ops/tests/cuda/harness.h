// What the tests need to run on a GPU (compiled by nvcc) and in the emulator (by any other compiler) alike.
#ifndef QCOMPILER_RUNTIME_TESTS_CUDA_HARNESS_H_
#define QCOMPILER_RUNTIME_TESTS_CUDA_HARNESS_H_

#include <vector>

#include "../../cuda/device.h"
#include "../check.h"

// An array on the device that begins `shift` elements behind an aligned address: what a caller may hand over.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values, int shift = 0) : count_(values.size()), shift_(shift) {
    CHECK(cudaMalloc(&memory_, (count_ + static_cast<std::size_t>(shift)) * sizeof(T)) == cudaSuccess, "out of memory");
    CHECK(cudaMemcpy(data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess, "copy");
  }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return static_cast<T*>(memory_) + shift_; }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    const cudaError_t code = cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost);
    CHECK(code == cudaSuccess, "%s", cudaGetErrorString(code));
    return values;
  }

 private:
  void* memory_ = nullptr;
  std::size_t count_;
  int shift_;
};

// A device has the processors and the shared memory that it has; the emulator has any.
#if defined(__CUDACC__)
inline void set_processors(int) {}
inline void set_shared_limit(std::size_t) {}
#else
using qcompiler::cuda::emulator::set_processors;
using qcompiler::cuda::emulator::set_shared_limit;
#endif

#endif  // QCOMPILER_RUNTIME_TESTS_CUDA_HARNESS_H_
