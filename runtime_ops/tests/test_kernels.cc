// Native tests: every path that this machine can run, against the definitions in reference/.
//
// One executable, no dependencies:
//   cd runtime_ops
//   g++ -std=c++17 -O2 -ffp-contract=off -static -o test_kernels tests/test_*.cc cpu/*.cc cpu/isa/*.cc reference/*.cc
//   ./test_kernels [--quick] [--path NAME] [--expect-path-error]
// --quick: small shapes, for an emulator. --path: this one only; fails if it cannot run here.
// --expect-path-error: QCOMPILER_CPU_PATH names an unusable path, and creating an operator must say so.
#include <cstring>

#include "check.h"

int g_checks = 0;
int g_failures = 0;

namespace {

int expect_path_error() {
  using namespace qcompiler::cpu;
  const char* text = path_status();
  CHECK(text != nullptr, "QCOMPILER_CPU_PATH is usable");
  LinearSpec spec;
  Linear* linear = nullptr;
  const char* failure = linear_create(spec, &linear);
  CHECK(failure != nullptr && std::strstr(failure, "QCOMPILER_CPU_PATH") != nullptr, "got: %s",
        failure == nullptr ? "success" : failure);
  CHECK(linear == nullptr, "an operator was made");
  if (failure != nullptr) std::printf("%s\n", failure);
  return g_failures == 0 ? 0 : 1;
}

void run_path(const char* name, bool quick) {
  const int before = g_checks;
  if (std::strcmp(name, "reference") != 0) {
    test_product(name, quick);
    test_stages(name);
  }
  test_row_norm(name, quick);
  test_rotate(name, quick);
  test_blocks(name, quick);
  test_linear(name, quick);
  test_attention(name, quick);
  test_half(name);
  std::printf("path %s: %d checks\n", name, g_checks - before);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace qcompiler::cpu;
  bool quick = false;
  const char* only = nullptr;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      quick = true;
    } else if (std::strcmp(argv[i], "--path") == 0 && i + 1 < argc) {
      only = argv[++i];
    } else if (std::strcmp(argv[i], "--expect-path-error") == 0) {
      return expect_path_error();
    } else {
      std::printf("unknown argument %s\n", argv[i]);
      return 1;
    }
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 1024);
  int ran = 0;
  for (int i = 0; i < path_count(); ++i) {
    const PathInfo info = path_info(i);
    std::printf("path %s: built %d, detected %d\n", info.name, info.built, info.detected);
  }
  test_dispatch();
  test_pack();
  test_weights();
  test_packed_cache();
  for (int i = 0; i < path_count(); ++i) {
    const PathInfo info = path_info(i);
    if (!info.detected || (only != nullptr && std::strcmp(only, info.name) != 0)) continue;
    CHECK(select_path(info.name) == nullptr, "%s", info.name);
    run_path(info.name, quick);
    ++ran;
  }
  CHECK(ran > 0, "no path ran");
  if (only == nullptr) test_threads(quick);
  std::printf("%d checks, %d failures\n", g_checks, g_failures);
  return g_failures == 0 ? 0 : 1;
}
