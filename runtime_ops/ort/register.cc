// The entry point that ONNX Runtime looks for in an operator library.
#include <memory>
#include <utility>
#include <vector>

#include "ort/custom_op.h"

namespace qcompiler {
namespace ort {
namespace {

constexpr char kDomain[] = "qcompiler";

// Made once and never destroyed: sessions may outlive the static objects of this library.
OrtCustomOpDomain* domain() {
  static OrtCustomOpDomain* const made = [] {
    OrtCustomOpDomain* created = nullptr;
    check(api().CreateCustomOpDomain(kDomain, &created));
    auto& kept = *new std::vector<std::unique_ptr<CustomOp>>;
    // Both devices' operators have one schema; the runtime chooses by the provider that a node is given to.
    for (const Device* device : {&cpu_device(), cuda_device()}) {
      if (!device) continue;
      for (const auto& family : {linear_operators(), attention_operators()}) {
        for (Definition definition : family) {
          definition.device = device;
          kept.push_back(std::make_unique<CustomOp>(std::move(definition)));
          check(api().CustomOpDomain_Add(created, kept.back().get()));
        }
      }
    }
    return created;
  }();
  return made;
}

// Before the runtime's function table is known, no status can be made: the base table is all there is.
OrtStatus* refuse(const OrtApiBase* base, const char* message) {
  const OrtApi* any = base->GetApi(1);
  return any ? any->CreateStatus(ORT_FAIL, message) : nullptr;
}

}  // namespace
}  // namespace ort
}  // namespace qcompiler

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using namespace qcompiler::ort;
  try {
    connect(*base);
  } catch (const std::exception& error) {
    return refuse(base, error.what());
  }
  return guarded("", [&] { check(api().AddCustomOpDomain(options, domain())); });
}
