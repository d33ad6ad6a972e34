// Which path runs: a table, an automatic choice (the last detected one) and two ways to force one.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "detect.h"
#include "error.h"
#include "path.h"

namespace qcompiler {
namespace cpu {
namespace {

const Path kReferencePath = {"reference", true, detect_always, 1, 1, 1, false, nullptr, nullptr, nullptr, nullptr,
                             nullptr};

// Slowest first.
const Path* const kPaths[] = {&kReferencePath, &kPortablePath, &kSsse3Path, &kAvx2Path,
                              &kAvxVnniPath,   &kVnniPath,     &kAmxPath};
constexpr int kPathCount = sizeof(kPaths) / sizeof(kPaths[0]);

struct Detection {
  bool usable[kPathCount];
  Detection() noexcept {
    for (int i = 0; i < kPathCount; ++i) usable[i] = kPaths[i]->built && kPaths[i]->detect();
  }
};

// Once per process: detection of AMX asks the kernel for permission.
const Detection& detection() noexcept {
  static const Detection value;
  return value;
}

// nullptr and an error if `name` is unknown or cannot run here.
const Path* find(const char* name, const char* source, Status* status) noexcept {
  for (int i = 0; i < kPathCount; ++i) {
    if (std::strcmp(kPaths[i]->name, name) != 0) continue;
    if (detection().usable[i]) return kPaths[i];
    *status = error("%s: path '%s' is %s", source, name,
                    kPaths[i]->built ? "not supported by this processor or operating system" : "not in this build");
    return nullptr;
  }
  *status = error("%s: unknown path '%.60s'; known are reference, portable, ssse3, avx2, avxvnni, avx512vnni, amx",
                  source, name);
  return nullptr;
}

const char* environment() noexcept {
  static const char* const value = std::getenv("QCOMPILER_CPU_PATH");
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::atomic<const Path*> selected{nullptr};

}  // namespace

const Path* active_path(Status* status) noexcept {
  *status = nullptr;
  if (const Path* path = selected.load()) return path;
  if (const char* name = environment()) return find(name, "QCOMPILER_CPU_PATH", status);
  for (int i = kPathCount - 1; i > 0; --i) {
    if (detection().usable[i]) return kPaths[i];
  }
  return kPaths[0];
}

bool is_reference(const Path& path) noexcept { return path.product == nullptr; }

int path_count() noexcept { return kPathCount; }

PathInfo path_info(int index) noexcept {
  if (index < 0 || index >= kPathCount) return PathInfo{"", false, false, false};
  Status status = nullptr;
  const Path* active = active_path(&status);
  return PathInfo{kPaths[index]->name, kPaths[index]->built, detection().usable[index], kPaths[index] == active};
}

Status path_status() noexcept {
  Status status = nullptr;
  if (const char* name = environment()) find(name, "QCOMPILER_CPU_PATH", &status);
  return status;
}

Status select_path(const char* name) noexcept {
  Status status = nullptr;
  const Path* path = name == nullptr ? nullptr : find(name, "select_path", &status);
  if (status == nullptr) selected.store(path);
  return status;
}

}  // namespace cpu
}  // namespace qcompiler
