// Finds the CUDA library, which lies beside this one, and makes its operators a device.
//
// The order of the questions matters: nothing of CUDA is touched in a process whose ONNX Runtime has no CUDA provider.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "cuda/interface.h"
#include "ort/device.h"

#define QCOMPILER_EXPORT extern "C" __attribute__((visibility("default")))

namespace qcompiler {
namespace ort {
namespace {

constexpr char kProvider[] = "CUDAExecutionProvider";
constexpr char kFileName[] = "libqcompiler_ops_cuda.so";
constexpr char kDriver[] = "libcuda.so.1";

const cuda::Interface* g_cuda = nullptr;
std::string g_reason = "no session has registered the operators yet";

void* stream_of(const Call& call) {
  void* stream = nullptr;
  check(api().KernelContext_GetGPUComputeStream(call.context(), &stream));
  return stream;
}

class CudaLinear final : public DeviceLinear {
 public:
  explicit CudaLinear(const cpu::LinearSpec& spec) {
    if (const char* wrong = g_cuda->linear_create(spec, &linear_)) throw Error(wrong);
  }
  ~CudaLinear() override { g_cuda->linear_destroy(linear_); }

  void run(const cpu::LinearCall& problem, Call& call) const override {
    if (const char* wrong = g_cuda->linear_run(linear_, problem, stream_of(call))) throw Error(wrong);
  }
  void run(const cpu::HalfLinearCall& problem, Call& call) const override {
    if (const char* wrong = g_cuda->linear_run_half(linear_, problem, stream_of(call))) throw Error(wrong);
  }

 private:
  cuda::Linear* linear_ = nullptr;
};

class CudaAttention final : public DeviceAttention {
 public:
  explicit CudaAttention(const cpu::AttentionSpec& spec) {
    if (const char* wrong = g_cuda->attention_create(spec, &attention_)) throw Error(wrong);
  }
  ~CudaAttention() override { g_cuda->attention_destroy(attention_); }

  void run(const cpu::AttentionCall& problem, Call& call) const override {
    if (const char* wrong = g_cuda->attention_run(attention_, problem, stream_of(call))) throw Error(wrong);
  }
  void run(const cpu::HalfAttentionCall& problem, Call& call) const override {
    if (const char* wrong = g_cuda->attention_run_half(attention_, problem, stream_of(call))) throw Error(wrong);
  }

 private:
  cuda::Attention* attention_ = nullptr;
};

bool runtime_has_cuda() {
  char** names = nullptr;
  int count = 0;
  check(api().GetAvailableProviders(&names, &count));
  bool found = false;
  for (int i = 0; i < count; ++i) found = found || std::strcmp(names[i], kProvider) == 0;
  check(api().ReleaseAvailableProviders(names, count));
  return found;
}

// Handles are never closed: sessions use the code until the process ends.
bool driver_has_devices() {
  void* const driver = dlopen(kDriver, RTLD_NOW | RTLD_LOCAL);
  if (!driver) return false;
  const auto initialize = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count_devices = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  int count = 0;
  return initialize && count_devices && initialize(0) == 0 && count_devices(&count) == 0 && count > 0;
}

std::string own_folder() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || !info.dli_fname) return "";
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "./" : path.substr(0, slash + 1);
}

// Why there is no CUDA device, or an empty string with g_cuda set.
std::string connect_cuda() {
  const char* const wish = std::getenv("QCOMPILER_CUDA");
  if (wish && std::strcmp(wish, "off") == 0) return "QCOMPILER_CUDA=off";
  if (!runtime_has_cuda()) return "this ONNX Runtime has no CUDA execution provider";
  if (!driver_has_devices()) return "there is no CUDA driver or no device";
  void* const library = dlopen((own_folder() + kFileName).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return dlerror();
  const auto interface = reinterpret_cast<cuda::InterfaceFunction>(dlsym(library, cuda::kInterfaceSymbol));
  const cuda::Interface* const found = interface ? interface() : nullptr;
  if (!found || std::strcmp(found->version, QCOMPILER_VERSION) != 0) {
    return std::string(kFileName) + " belongs to another version of qcompile; reinstall qcompile";
  }
  if (const char* wrong = found->unusable()) return wrong;
  g_cuda = found;
  return "";
}

}  // namespace

const Device* cuda_device() {
  static const Device device = {
      kProvider,
      OrtMemTypeCPUInput,
      [](const cpu::LinearSpec& spec) -> std::unique_ptr<DeviceLinear> { return std::make_unique<CudaLinear>(spec); },
      [](const cpu::AttentionSpec& spec) -> std::unique_ptr<DeviceAttention> {
        return std::make_unique<CudaAttention>(spec);
      },
  };
  static const bool connected = (g_reason = connect_cuda()).empty();
  return connected ? &device : nullptr;
}

}  // namespace ort
}  // namespace qcompiler

// Why sessions with ONNX Runtime's CUDA provider do not get CUDA kernels; nullptr where they do.
QCOMPILER_EXPORT const char* qcompiler_cuda_status() {
  return qcompiler::ort::g_cuda ? nullptr : qcompiler::ort::g_reason.c_str();
}
