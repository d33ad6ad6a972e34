// Where operators run. An operator reads its attributes and constants and checks shapes; what then computes is made by a
// device: the kernels of cpu/, or those of the CUDA library where there is one and a GPU to run it.
#ifndef QCOMPILER_ORT_DEVICE_H_
#define QCOMPILER_ORT_DEVICE_H_

#include <memory>

#include "cpu/kernels.h"
#include "ort/call.h"

namespace qcompiler {
namespace ort {

// One operator on one device. `run` may be called by several threads at once and throws Error.
template <template <typename> class Problem>
class DeviceOperator {
 public:
  virtual ~DeviceOperator() = default;
  virtual void run(const Problem<float>& problem, Call& call) const = 0;
  virtual void run(const Problem<cpu::Half>& problem, Call& call) const = 0;
};
using DeviceLinear = DeviceOperator<cpu::LinearCallOf>;
using DeviceAttention = DeviceOperator<cpu::AttentionCallOf>;

struct Device {
  const char* provider;  // the execution provider, as ONNX Runtime calls it
  // Memory of constant inputs: they are read once, by the processor.
  OrtMemType constants;
  // Throw Error.
  std::unique_ptr<DeviceLinear> (*linear)(const cpu::LinearSpec& spec);
  std::unique_ptr<DeviceAttention> (*attention)(const cpu::AttentionSpec& spec);
};

const Device& cpu_device();
// nullptr where the library, the driver, a GPU or the runtime's CUDA provider is missing: that is no error, and
// qcompiler_cuda_status says which. Asks once, after `connect`.
const Device* cuda_device();

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_DEVICE_H_
