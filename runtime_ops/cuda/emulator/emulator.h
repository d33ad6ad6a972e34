// A GPU on the processor: runs a kernel block by block, every thread of a block as a coroutine that is switched at
// barriers and warp operations. Slow, exact, and strict about what a GPU is lax about: a barrier that not all threads
// reach, an asynchronous copy that nobody waited for, shared memory beyond what was asked for.
//
// Written from NVIDIA's description of the instructions (PTX ISA), not from the kernels: the tests compare the two.
#ifndef QCOMPILER_CUDA_EMULATOR_EMULATOR_H_
#define QCOMPILER_CUDA_EMULATOR_EMULATOR_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "../../cpu/error.h"
#include "../../cpu/kernels.h"

#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_count = 1, unsigned y_count = 1, unsigned z_count = 1) : x(x_count), y(y_count), z(z_count) {}
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

// Of the thread that runs.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

// ---- The part of the runtime's interface that the host code uses -------------------------------------------------

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };

cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t code);

namespace qcompiler {
namespace cuda {
namespace emulator {

// How threads take turns and when asynchronous copies arrive: what is right must be right for all of them.
struct Order {
  bool backwards = false;  // the last thread first
  bool eager = false;      // copies arrive at once, not when they are waited for
};
void set_order(const Order& order);
void set_shared_limit(std::size_t bytes);  // of one block
void set_processors(int count);

constexpr int kMostThreads = 1024;

// Runs `body` once per thread of the grid.
void run(dim3 grid, int threads, std::size_t shared, const std::function<void()>& body);

// Until all threads of the block, or of the warp, are here.
void sync_block();
void sync_warp();
// What every lane of the warp deposits, as seen by all of them until the next exchange.
const void* exchange(const void* value, std::size_t bytes);
void copy_async(unsigned char* to, const unsigned char* from);
void commit_copies();
void wait_copies(int pending);
unsigned char* shared_memory();
int lane();

}  // namespace emulator

inline void sync_block() { emulator::sync_block(); }
inline void sync_warp() { emulator::sync_warp(); }
template <typename T>
inline T shuffle_xor(T value, int mask) {
  return static_cast<const T*>(emulator::exchange(&value, sizeof value))[emulator::lane() ^ mask];
}
inline unsigned match_any(int value) {
  const int* const all = static_cast<const int*>(emulator::exchange(&value, sizeof value));
  unsigned same = 0;
  for (int i = 0; i < 32; ++i) same |= all[i] == value ? 1u << i : 0u;
  return same;
}
inline unsigned char* shared_memory() { return emulator::shared_memory(); }

void multiply_add(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, bool is_unsigned);
template <bool kUnsigned>
inline void multiply_add(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiply_add(d, a, b0, b1, kUnsigned);
}
void load_matrices(unsigned (&out)[4], const unsigned char* row);
inline int add_bytes(int sum, unsigned bytes) {
  for (int i = 0; i < 4; ++i) sum += static_cast<std::int8_t>(bytes >> 8 * i);
  return sum;
}

inline void copy_async(unsigned char* to, const unsigned char* from) { emulator::copy_async(to, from); }
inline void commit_copies() { emulator::commit_copies(); }
template <int kPending>
inline void wait_copies() {
  emulator::wait_copies(kPending);
}

inline float from_bits(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float from_half_bits(unsigned short bits);
unsigned short to_half_bits(float x);

inline cpu::Status launch_status(const char* what, cudaError_t code) {
  return code == cudaSuccess ? nullptr : cpu::error("%s: CUDA: %s", what, cudaGetErrorString(code));
}
template <typename... Parameters>
cpu::Status launch(const char*, void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared,
                   cudaStream_t, Parameters... parameters) {
  emulator::run(grid, threads, shared, [&] { kernel(parameters...); });
  return nullptr;
}

}  // namespace cuda
}  // namespace qcompiler

inline int min(int x, int y) { return x < y ? x : y; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }

#endif  // QCOMPILER_CUDA_EMULATOR_EMULATOR_H_
