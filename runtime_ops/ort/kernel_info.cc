#include "ort/kernel_info.h"

#include <algorithm>
#include <cmath>

namespace qcompiler {
namespace ort {
namespace {

// True if the call succeeded; the runtime has no other way to ask whether an attribute is there.
bool succeeded(OrtStatus* status) {
  if (!status) return true;
  api().ReleaseStatus(status);
  return false;
}

[[noreturn]] void missing(const char* name) {
  throw Error(std::string("attribute '") + name + "' is missing or has the wrong type");
}

// An attribute that is there with a type that was not asked for must not be taken for one that is missing.
void refuse_other_types(const OrtKernelInfo* info, const char* name) {
  std::int64_t integer = 0;
  float number = 0;
  std::size_t size = 0;
  const bool there = succeeded(api().KernelInfoGetAttribute_int64(info, name, &integer)) ||
                     succeeded(api().KernelInfoGetAttribute_float(info, name, &number)) ||
                     succeeded(api().KernelInfoGetAttribute_string(info, name, nullptr, &size)) ||
                     succeeded(api().KernelInfoGetAttributeArray_int64(info, name, nullptr, &size)) ||
                     succeeded(api().KernelInfoGetAttributeArray_float(info, name, nullptr, &size));
  if (there) throw Error(std::string("attribute '") + name + "' has the wrong type");
}

}  // namespace

std::string KernelInfo::node_name() const {
  std::size_t size = 0;
  if (!succeeded(api().KernelInfo_GetNodeName(info_, nullptr, &size)) || size == 0) return "";
  std::string name(size, '\0');
  if (!succeeded(api().KernelInfo_GetNodeName(info_, &name[0], &size))) return "";
  return name.substr(0, name.find('\0'));
}

std::int64_t KernelInfo::integer(const char* name) const {
  std::int64_t value = 0;
  if (!succeeded(api().KernelInfoGetAttribute_int64(info_, name, &value))) missing(name);
  return value;
}

std::int64_t KernelInfo::integer(const char* name, std::int64_t fallback) const {
  std::int64_t value = 0;
  if (succeeded(api().KernelInfoGetAttribute_int64(info_, name, &value))) return value;
  refuse_other_types(info_, name);
  return fallback;
}

float KernelInfo::number(const char* name) const {
  float value = 0;
  if (!succeeded(api().KernelInfoGetAttribute_float(info_, name, &value))) missing(name);
  return value;
}

float KernelInfo::number(const char* name, float fallback) const {
  float value = 0;
  if (succeeded(api().KernelInfoGetAttribute_float(info_, name, &value))) return value;
  refuse_other_types(info_, name);
  return fallback;
}

std::string KernelInfo::string(const char* name, const char* fallback) const {
  std::size_t size = 0;
  if (!succeeded(api().KernelInfoGetAttribute_string(info_, name, nullptr, &size))) {
    refuse_other_types(info_, name);
    return fallback;
  }
  std::string value(size, '\0');
  if (!succeeded(api().KernelInfoGetAttribute_string(info_, name, &value[0], &size))) return fallback;
  return value.substr(0, value.find('\0'));
}

Tensor KernelInfo::constant(std::size_t index, const char* name) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(api().KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
  if (!is_constant || !value) throw Error(std::string("input '") + name + "' must be a constant (an initializer of the model)");
  return view(value);
}

Tensor KernelInfo::vector(std::size_t index, const char* name, std::int64_t length) const {
  Tensor tensor = constant(index, name);
  if (tensor.shape != Shape{length}) {
    throw Error(std::string("input '") + name + "' has shape " + text(tensor.shape) + ", expected [" + std::to_string(length) + "]");
  }
  const float* const values = tensor.floats();
  if (!std::all_of(values, values + length, [](float value) { return std::isfinite(value); })) {
    throw Error(std::string("input '") + name + "' holds NaN or infinity");
  }
  return tensor;
}

}  // namespace ort
}  // namespace qcompiler
