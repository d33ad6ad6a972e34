#include "ort/shape_inference.h"

#include <algorithm>
#include <memory>

namespace qcompiler {
namespace ort {

SymbolicShape input_shape(const OrtShapeInferContext* context, std::size_t index) {
  OrtTensorTypeAndShapeInfo* info = nullptr;  // belongs to the context
  check(api().ShapeInferContext_GetInputTypeShape(context, index, &info));
  std::size_t rank = 0;
  check(api().GetDimensionsCount(info, &rank));
  std::vector<std::int64_t> values(rank);
  std::vector<const char*> names(rank, nullptr);
  check(api().GetDimensions(info, values.data(), rank));
  check(api().GetSymbolicDimensions(info, names.data(), rank));
  SymbolicShape shape(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    shape[i].value = values[i];
    if (names[i]) shape[i].name = names[i];
  }
  return shape;
}

ONNXTensorElementDataType activation_type(const OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api().ShapeInferContext_GetInputTypeShape(context, 0, &info));
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api().GetTensorElementType(info, &type));
  return type;
}

void set_output_shape(const OrtShapeInferContext* context, const SymbolicShape& shape) {
  if (!std::all_of(shape.begin(), shape.end(), [](const Dim& dim) { return dim.known(); })) return;
  std::vector<std::int64_t> values;
  std::vector<const char*> names;
  for (const Dim& dim : shape) {
    values.push_back(dim.value);
    names.push_back(dim.value >= 0 ? "" : dim.name.c_str());
  }
  OrtTensorTypeAndShapeInfo* created = nullptr;
  check(api().CreateTensorTypeAndShapeInfo(&created));
  const auto release = [](OrtTensorTypeAndShapeInfo* info) { api().ReleaseTensorTypeAndShapeInfo(info); };
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(release)> info(created, release);
  check(api().SetTensorElementType(created, activation_type(context)));
  check(api().SetDimensions(created, values.data(), values.size()));
  check(api().SetSymbolicDimensions(created, names.data(), names.size()));
  check(api().ShapeInferContext_SetOutputTypeShape(context, 0, created));
}

}  // namespace ort
}  // namespace qcompiler
