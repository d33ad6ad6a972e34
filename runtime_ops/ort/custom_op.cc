#include "ort/custom_op.h"

#include <algorithm>
#include <utility>

#include "ort/operator_version.h"

namespace qcompiler {
namespace ort {
namespace {

const Definition& described(const OrtCustomOp* op) { return static_cast<const CustomOp*>(op)->definition(); }

// "GroupLinear 'blocks.0.fc1': "
std::string prefix(const Definition& definition, const OrtKernelInfo* info) {
  const std::string node = KernelInfo(info).node_name();
  return definition.name + (node.empty() ? "" : " '" + node + "'") + ": ";
}

}  // namespace

CustomOp::CustomOp(Definition definition_of_op) : OrtCustomOp{}, definition_(std::move(definition_of_op)) {
  OrtCustomOp::version = api_version();
  GetName = [](const OrtCustomOp* op) { return described(op).name.c_str(); };
  GetExecutionProviderType = [](const OrtCustomOp* op) { return described(op).device->provider; };
  GetInputTypeCount = [](const OrtCustomOp* op) { return described(op).inputs.size(); };
  GetInputType = [](const OrtCustomOp* op, std::size_t index) { return described(op).inputs[index]; };
  GetOutputTypeCount = [](const OrtCustomOp*) { return std::size_t{1}; };
  GetOutputType = [](const OrtCustomOp* op, std::size_t) { return described(op).activations; };
  GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](const OrtCustomOp* op, std::size_t index) {
    const std::vector<std::size_t>& tensors = described(op).tensors;
    const bool constant = std::find(tensors.begin(), tensors.end(), index) == tensors.end();
    return constant ? described(op).device->constants : OrtMemTypeDefault;
  };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return 1; };
  CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) -> OrtStatus* {
    *kernel = nullptr;
    std::string where;
    OrtStatus* status = guarded("", [&] { where = prefix(described(op), info); });
    if (status) return status;
    return guarded(where, [&] {
      check_operator_version(KernelInfo(info));
      *kernel = described(op).create(KernelInfo(info), described(op)).release();
    });
  };
  KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
    return guarded("", [&] {
      const auto* mine = static_cast<const Kernel*>(kernel);
      Call call(context, mine->pieces());
      mine->run(call);
    });
  };
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) -> OrtStatus* {
    return guarded(described(op).name + ": ", [&] { described(op).infer(context, described(op)); });
  };
}

}  // namespace ort
}  // namespace qcompiler
