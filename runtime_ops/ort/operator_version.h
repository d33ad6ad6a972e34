// Which versions of the operators of domain `qcompiler` this library knows.
#ifndef QCOMPILER_ORT_OPERATOR_VERSION_H_
#define QCOMPILER_ORT_OPERATOR_VERSION_H_

#include <cstdint>

namespace qcompiler {
namespace ort {

class KernelInfo;

// The version that a model imports of the domain. Whatever gives an operator another meaning or another attribute needs
// a new one.
constexpr std::int64_t kOldestOperators = 1;
constexpr std::int64_t kNewestOperators = 1;

// Throws Error for a node of a version that this library does not know.
//
// The runtime resolves every version of a custom domain to the operators that are there and shows none of it to them, so
// nodes of a version after the first carry it as the attribute `version`.
void check_operator_version(const KernelInfo& info);

}  // namespace ort
}  // namespace qcompiler

#endif  // QCOMPILER_ORT_OPERATOR_VERSION_H_
