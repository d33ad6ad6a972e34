// The table of paths and the ways to choose one.
#include <cstdlib>
#include <cstring>

#include "../cpu/path.h"
#include "check.h"

using namespace qcompiler::cpu;

void test_dispatch() {
  const char* const names[] = {"reference", "portable", "ssse3", "avx2", "avxvnni", "avx512vnni", "amx"};
  CHECK(path_count() == 7, "%d paths", path_count());
  for (int i = 0; i < path_count(); ++i) CHECK(std::strcmp(path_info(i).name, names[i]) == 0, "%d", i);
  CHECK(path_info(0).detected && path_info(1).detected, "reference and portable run everywhere");
  CHECK(path_info(-1).name[0] == '\0' && path_info(99).name[0] == '\0', "index out of range");

  const Status unknown = select_path("sse9");
  CHECK(unknown != nullptr && std::strstr(unknown, "sse9") != nullptr, "an unknown path is named");
  for (const char* name : names) CHECK(std::strstr(unknown, name) != nullptr, "%s is among the known ones", name);
  for (int i = 0; i < path_count(); ++i) {
    const PathInfo info = path_info(i);
    const Status status = select_path(info.name);
    CHECK((status == nullptr) == info.detected, "%s", info.name);
    CHECK(path_info(i).active == info.detected, "%s is active after it was selected", info.name);
  }
  // A failed selection changes nothing.
  select_path("reference");
  select_path("sse9");
  CHECK(path_info(0).active, "the selection survives");
  CHECK(select_path(nullptr) == nullptr, "back to automatic");
  int active = 0;
  for (int i = 0; i < path_count(); ++i) active += path_info(i).active ? 1 : 0;
  CHECK(active == 1, "%d active paths", active);
  if (std::getenv("QCOMPILER_CPU_PATH") == nullptr) {
    CHECK(!path_info(0).active, "the reference runs only where it is asked for");
  }
}
