// An operator as ONNX Runtime sees it, filled from a plain description.
#ifndef QCOMPILER_ORT_CUSTOM_OP_H_
#define QCOMPILER_ORT_CUSTOM_OP_H_

#include <memory>
#include <string>
#include <vector>

#include "ort/api.h"
#include "ort/call.h"
#include "ort/device.h"
#include "ort/kernel_info.h"
#include "ort/shape_inference.h"

namespace qcompiler {
namespace ort {

// The state of one node of one session. `run` may be called by several threads at once.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(Call& call) const = 0;

  Pieces& pieces() const noexcept { return pieces_; }

 private:
  mutable Pieces pieces_;
};

// One operator with one choice of input types; every operator has one output.
struct Definition {
  std::string name;
  ONNXTensorElementDataType activations;  // float32 or float16: the type of the inputs in `tensors` and of the output
  std::vector<ONNXTensorElementDataType> inputs;
  std::unique_ptr<Kernel> (*create)(const KernelInfo& info, const Definition& self);
  void (*infer)(const OrtShapeInferContext* context, const Definition& self);
  unsigned parts = 0;  // what the operator does beside its core, in the bits of its own family
  std::vector<std::size_t> tensors;  // inputs that come at run time; the others are constants
  const Device* device = &cpu_device();
};

class CustomOp : public OrtCustomOp {
 public:
  explicit CustomOp(Definition definition);

  const Definition& definition() const noexcept { return definition_; }

 private:
  Definition definition_;
};

// What an operator's activations may be.
constexpr ONNXTensorElementDataType kActivationTypes[] = {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                          ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16};

// The operators of the two families.
std::vector<Definition> linear_operators();
std::vector<Definition> attention_operators();

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_CUSTOM_OP_H_
