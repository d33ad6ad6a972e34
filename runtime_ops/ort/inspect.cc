// What Python asks the library through ctypes: its version, its CPU paths, its weights. Nothing of ONNX Runtime here.
#include "cpu/kernels.h"
#include "cpu/packed_cache.h"
#include "ort/operator_version.h"

#define QCOMPILER_EXPORT extern "C" __attribute__((visibility("default")))

// The version of the package that the library was built with.
QCOMPILER_EXPORT const char* qcompiler_version() { return QCOMPILER_VERSION; }

QCOMPILER_EXPORT int qcompiler_cpu_path_count() { return qcompiler::cpu::path_count(); }

// Name of path `index`, nullptr when there is none; flags: 1 built, 2 detected, 4 active.
QCOMPILER_EXPORT const char* qcompiler_cpu_path(int index, int* flags) {
  if (index < 0 || index >= qcompiler::cpu::path_count()) return nullptr;
  const qcompiler::cpu::PathInfo path = qcompiler::cpu::path_info(index);
  *flags = (path.built ? 1 : 0) | (path.detected ? 2 : 0) | (path.active ? 4 : 0);
  return path.name;
}

// What is wrong with the environment variable QCOMPILER_CPU_PATH, or nullptr.
QCOMPILER_EXPORT const char* qcompiler_cpu_path_status() { return qcompiler::cpu::path_status(); }

// Chooses the path of operators created from now on, nullptr for the automatic choice; returns what is wrong or nullptr.
QCOMPILER_EXPORT const char* qcompiler_select_cpu_path(const char* name) { return qcompiler::cpu::select_path(name); }

// The oldest and the newest version of the operators that the library knows.
QCOMPILER_EXPORT void qcompiler_operator_versions(std::int64_t* oldest, std::int64_t* newest) {
  *oldest = qcompiler::ort::kOldestOperators;
  *newest = qcompiler::ort::kNewestOperators;
}

// Bytes of packed weights that the sessions of this process hold; sessions that share them count once.
QCOMPILER_EXPORT std::size_t qcompiler_packed_bytes() { return qcompiler::cpu::packed_totals().bytes; }
