// Output shapes before anything runs: dimensions are numbers, names, or unknown.
#ifndef QCOMPILER_ORT_SHAPE_INFERENCE_H_
#define QCOMPILER_ORT_SHAPE_INFERENCE_H_

#include <string>
#include <vector>

#include "ort/api.h"

namespace qcompiler {
namespace ort {

struct Dim {
  std::int64_t value = -1;  // negative: not a number
  std::string name;         // empty: no name

  bool known() const { return value >= 0 || !name.empty(); }
};

using SymbolicShape = std::vector<Dim>;

// Empty if the shape of the input is unknown; no input of these operators is a scalar.
SymbolicShape input_shape(const OrtShapeInferContext* context, std::size_t index);
// The type of the first input, which is that of the output. Not a matter of the definition at hand: the runtime calls the
// inference of one of those that share a name.
ONNXTensorElementDataType activation_type(const OrtShapeInferContext* context);
// Does nothing when a dimension is unknown: the runtime would take the -1 for a number.
void set_output_shape(const OrtShapeInferContext* context, const SymbolicShape& shape);

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_SHAPE_INFERENCE_H_
