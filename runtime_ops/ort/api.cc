#include "ort/api.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>

namespace qcompiler {
namespace ort {
namespace {

// The oldest version with everything that the glue calls; every later runtime still offers it.
constexpr int kWantedVersion = 17;
static_assert(ORT_API_VERSION >= kWantedVersion, "the ONNX Runtime headers are older than 1.17");

const OrtApi* g_api = nullptr;
std::uint32_t g_version = 0;
int g_minor = 0;

}  // namespace

const OrtApi& api() noexcept { return *g_api; }
std::uint32_t api_version() noexcept { return g_version; }
int runtime_minor() noexcept { return g_minor; }

void connect(const OrtApiBase& base) {
  // "1.31.1": the minor number is the newest API version of that release. Newer headers change nothing here.
  const char* const release = base.GetVersionString();
  const char* dot = std::strchr(release, '.');
  const int minor = dot ? std::atoi(dot + 1) : 0;
  const auto version = static_cast<std::uint32_t>(std::min(minor, kWantedVersion));
  const OrtApi* found = base.GetApi(version);
  if (!found || minor < kWantedVersion) {
    throw Error(std::string("the operator library of qcompile ") + QCOMPILER_VERSION + " needs ONNX Runtime 1." +
                std::to_string(kWantedVersion) + " or newer, and this is " + release + "; install a newer onnxruntime");
  }
  g_api = found;
  g_version = version;
  g_minor = minor;
}

void check(OrtStatus* status) {
  if (!status) return;
  const std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw Error(message);
}

std::string text(const Shape& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::string text(float value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", static_cast<double>(value));
  return buffer;
}

std::int64_t Tensor::count() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<std::int64_t>());
}

Tensor view(const OrtValue* value) {
  Tensor tensor;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api().GetTensorTypeAndShape(value, &info));
  std::size_t rank = 0;
  OrtStatus* status = api().GetTensorElementType(info, &tensor.type);
  if (!status) status = api().GetDimensionsCount(info, &rank);
  tensor.shape.resize(status ? 0 : rank);
  if (!status) status = api().GetDimensions(info, tensor.shape.data(), rank);
  api().ReleaseTensorTypeAndShapeInfo(info);
  check(status);
  void* data = nullptr;
  check(api().GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  tensor.data = data;
  return tensor;
}

}  // namespace ort
}  // namespace qcompiler
