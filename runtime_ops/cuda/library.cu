// What the library shows: its table of functions, and whether this machine can run it.
#include "device.h"
#include "interface.h"

namespace qcompiler {
namespace cuda {
namespace {

constexpr int kOldestMajor = 8;  // compute capability that the kernels are built for

// The runtime that is linked in does not load the driver before the first call.
Status unusable() noexcept {
  int driver = 0, count = 0;
  if (Status status = launch_status("driver", cudaDriverGetVersion(&driver))) return status;
  // Releases of one major number run on each other's drivers.
  if (driver < CUDART_VERSION / 1000 * 1000) {
    return cpu::error("CUDA: the driver knows CUDA %d, and the library was built with CUDA %d; install a newer driver",
                      driver / 1000, CUDART_VERSION / 1000);
  }
  if (Status status = launch_status("devices", cudaGetDeviceCount(&count))) return status;
  for (int device = 0; device < count; ++device) {
    int major = 0;
    const cudaError_t code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (Status status = launch_status("devices", code)) return status;
    // Which device a session will use is not known yet.
    if (major < kOldestMajor) return cpu::error("CUDA: device %d has compute capability %d, expected 8 or more", device, major);
  }
  return nullptr;
}

}  // namespace
}  // namespace cuda
}  // namespace qcompiler

extern "C" __attribute__((visibility("default"))) const qcompiler::cuda::Interface* qcompiler_cuda_interface() {
  using namespace qcompiler::cuda;
  static const Interface table = {
      QCOMPILER_VERSION,
      sizeof(qcompiler::cpu::LinearSpec),
      sizeof(qcompiler::cpu::AttentionSpec),
      unusable,
      linear_create,
      linear_destroy,
      linear_run,
      linear_run_half,
      attention_create,
      attention_destroy,
      attention_run,
      attention_run_half,
  };
  return &table;
}
