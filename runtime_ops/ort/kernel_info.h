// What a node says about itself when its kernel is created: attributes and constant inputs.
#ifndef QCOMPILER_ORT_KERNEL_INFO_H_
#define QCOMPILER_ORT_KERNEL_INFO_H_

#include <string>

#include "ort/api.h"

namespace qcompiler {
namespace ort {

class KernelInfo {
 public:
  explicit KernelInfo(const OrtKernelInfo* info) : info_(info) {}

  std::string node_name() const;

  // Attributes; without a default a missing one is an Error.
  std::int64_t integer(const char* name) const;
  std::int64_t integer(const char* name, std::int64_t fallback) const;
  float number(const char* name) const;
  float number(const char* name, float fallback) const;
  std::string string(const char* name, const char* fallback) const;

  // A constant input; Error if it is computed at run time.
  Tensor constant(std::size_t index, const char* name) const;
  // The same, of float32, exactly this shape, and finite values.
  Tensor vector(std::size_t index, const char* name, std::int64_t length) const;

 private:
  const OrtKernelInfo* info_;
};

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_KERNEL_INFO_H_
