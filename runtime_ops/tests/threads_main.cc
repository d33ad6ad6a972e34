// What is shared between threads, and nothing else: small enough for the thread sanitizer.
// Built by run.sh with -fsanitize=thread from this file, test_threads.cc, test_packed_cache.cc and test_samples.cc.
#include "check.h"

int g_checks = 0;
int g_failures = 0;

int main() {
  test_packed_cache();
  test_threads(true);
  std::printf("threads: %d checks, %d failures\n", g_checks, g_failures);
  return g_failures == 0 ? 0 : 1;
}
