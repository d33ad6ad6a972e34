#include "ort/operator_version.h"

#include <string>

#include "ort/kernel_info.h"

namespace qcompiler {
namespace ort {
namespace {

std::string known() {
  const std::string newest = std::to_string(kNewestOperators);
  return kOldestOperators == kNewestOperators ? "version " + newest
                                              : "versions " + std::to_string(kOldestOperators) + " to " + newest;
}

}  // namespace

void check_operator_version(const KernelInfo& info) {
  const std::int64_t version = info.integer("version", 1);
  if (version >= kOldestOperators && version <= kNewestOperators) return;
  throw Error("the model uses version " + std::to_string(version) + " of the qcompiler operators, and this library, of qcompile " +
              QCOMPILER_VERSION + ", knows " + known() + "; install " +
              (version > kNewestOperators ? "a newer" : "the qcompile that wrote the model, an older") +
              " one, or run the model without the library");
}

}  // namespace ort
}  // namespace qcompiler
