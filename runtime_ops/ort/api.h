// ONNX Runtime's C API behind the few C++ types that the glue needs.
//
// The C API and not the C++ wrapper: the wrapper of the 1.17 headers writes wrong dimensions in its shape inference
// (`dim.IsInt()` for the value), and a C struct is the same for every compiler that the runtime was built with.
#ifndef QCOMPILER_ORT_API_H_
#define QCOMPILER_ORT_API_H_

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "onnxruntime_c_api.h"

namespace qcompiler {
namespace ort {

// The runtime's function table, set by the first RegisterCustomOps of the process and never changed after it.
const OrtApi& api() noexcept;
// The API version in use, and the minor number of the runtime (31 for 1.31.1).
std::uint32_t api_version() noexcept;
int runtime_minor() noexcept;
// Takes the function table of the API version that the glue is written for; throws Error if the runtime is older.
void connect(const OrtApiBase& base);

// A failure that the user reads in one line.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error with the message of a failed call, and releases it.
void check(OrtStatus* status);

// Runs `body`; whatever it throws becomes the status that ONNX Runtime reports. `where` is put in front of the message.
template <class Body>
OrtStatus* guarded(const std::string& where, Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Error& error) {
    return api().CreateStatus(ORT_INVALID_ARGUMENT, (where + error.what()).c_str());
  } catch (const std::exception& error) {
    return api().CreateStatus(ORT_FAIL, (where + error.what()).c_str());
  } catch (...) {
    return api().CreateStatus(ORT_FAIL, "unknown exception in the qcompiler operators");
  }
}

// The INT4 value of ONNXTensorElementDataType, which came after the headers this library is built with (1.17).
constexpr ONNXTensorElementDataType kInt4 = static_cast<ONNXTensorElementDataType>(22);
// First runtime whose custom operators take INT4 tensors.
constexpr int kFirstMinorWithInt4 = 20;

using Shape = std::vector<std::int64_t>;

// "[2, 197, 768]"
std::string text(const Shape& shape);
// As many digits as tell two float32 values apart.
std::string text(float value);

// A tensor that somebody else owns.
struct Tensor {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  Shape shape;
  const void* data = nullptr;

  std::int64_t count() const;
  template <typename T>
  const T* values() const {
    return static_cast<const T*>(data);
  }
  const float* floats() const { return values<float>(); }
};

Tensor view(const OrtValue* value);

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_API_H_
