// What the kernels need of a GPU: warp and block operations, tensor-core products, asynchronous copies, launching.
//
// nvcc compiles them to instructions. A plain C++ compiler gets emulator/, which runs the same kernels thread by thread
// on the processor: the tests of runtime_ops/tests check them there, where there is no GPU.
//
// Build with -fmad=false: codes are compared with the CPU's, and a fused multiply-add would round once where the
// operators' definition rounds twice.
#ifndef QCOMPILER_CUDA_DEVICE_H_
#define QCOMPILER_CUDA_DEVICE_H_

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define QC_HD __host__ __device__ __forceinline__
#define QC_DEVICE static __device__ __forceinline__
#define QC_KERNEL static __global__ void
#else
#include "emulator/emulator.h"
#define QC_HD inline
#define QC_DEVICE static inline
#define QC_KERNEL static void
#endif

#include "../cpu/error.h"
#include "../cpu/kernels.h"

namespace qcompiler {
namespace cuda {

using cpu::Status;

constexpr int kWarp = 32;

#if defined(__CUDACC__)

// ---- Warps and blocks --------------------------------------------------------------------------------------------

QC_DEVICE void sync_block() { __syncthreads(); }
QC_DEVICE void sync_warp() { __syncwarp(); }
template <typename T>
QC_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
// Lanes with the same value as this one, as a mask.
QC_DEVICE unsigned match_any(int value) { return __match_any_sync(0xffffffffu, value); }
// The block's dynamic shared memory.
QC_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

// ---- Integer products --------------------------------------------------------------------------------------------

// d[16 x 8] += a[16 x 32] * b[32 x 8]; how the lanes hold the operands is told in fragments.h. Sums wrap.
template <bool kUnsigned>
QC_DEVICE void multiply_add(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (kUnsigned) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Four matrices of 8 rows of 16 bytes from shared memory; lane l gives the address of row l % 8 of matrix l / 8 and
// gets bytes 4 (l % 4) .. + 3 of row l / 4 of each of them.
QC_DEVICE void load_matrices(unsigned (&out)[4], const unsigned char* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// sum + the four signed bytes of `bytes`.
QC_DEVICE int add_bytes(int sum, unsigned bytes) { return __dp4a(static_cast<int>(bytes), 0x01010101, sum); }

// ---- Copies into shared memory -----------------------------------------------------------------------------------

// Sixteen aligned bytes; they have arrived when wait_copies says so, and then only for the thread that asked.
QC_DEVICE void copy_async(unsigned char* to, const unsigned char* from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
// Ends a group of copies, empty ones too.
QC_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kPending groups are under way.
template <int kPending>
QC_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- Bits --------------------------------------------------------------------------------------------------------

QC_DEVICE float from_bits(int bits) { return __int_as_float(bits); }
QC_DEVICE float from_half_bits(unsigned short bits) { return __half2float(__ushort_as_half(bits)); }
// To nearest, ties to even.
QC_DEVICE unsigned short to_half_bits(float x) { return __half_as_ushort(__float2half_rn(x)); }

// ---- Launching ---------------------------------------------------------------------------------------------------

// The error of the last launch or call as a status.
inline Status launch_status(const char* what, cudaError_t code) {
  return code == cudaSuccess ? nullptr : cpu::error("%s: CUDA: %s", what, cudaGetErrorString(code));
}

constexpr std::size_t kPlainShared = 48 * 1024;  // more than this must be asked for

template <typename... Parameters>
Status launch(const char* what, void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared,
              cudaStream_t stream, Parameters... parameters) {
  if (shared > kPlainShared) {
    const cudaError_t code =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (code != cudaSuccess) return launch_status(what, code);
  }
  kernel<<<grid, threads, shared, stream>>>(parameters...);
  return launch_status(what, cudaGetLastError());
}

#endif  // __CUDACC__

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_DEVICE_H_
