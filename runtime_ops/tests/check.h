// A check macro, random values and aligned memory: all that these tests need of a framework.
#ifndef QCOMPILER_RUNTIME_TESTS_CHECK_H_
#define QCOMPILER_RUNTIME_TESTS_CHECK_H_

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../cpu/kernels.h"

extern int g_checks;
extern int g_failures;

// Counts, and prints the first failures with a printf message.
#define CHECK(condition, ...)                                                \
  do {                                                                       \
    ++g_checks;                                                              \
    if (!(condition)) {                                                      \
      if (++g_failures <= 20) {                                              \
        std::printf("%s:%d: failed: %s: ", __FILE__, __LINE__, #condition);  \
        std::printf(__VA_ARGS__);                                            \
        std::printf("\n");                                                   \
      }                                                                      \
    }                                                                        \
  } while (0)

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const std::uint32_t x = static_cast<std::uint32_t>(state_ >> 33);
    return x ^ x >> 15;
  }
  int integer(int low, int high) { return low + static_cast<int>(next() % static_cast<std::uint32_t>(high - low + 1)); }
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(next() % 65536u) / 65535.0f; }
  float normal() { return uniform(-1, 1) + uniform(-1, 1) + uniform(-1, 1); }

 private:
  std::uint64_t state_;
};

// Exactly `bytes` bytes at the alignment that scratch needs, so that the address sanitizer sees every overrun.
class Aligned {
 public:
  explicit Aligned(std::size_t bytes)
      : data_(std::aligned_alloc(qcompiler::cpu::kScratchAlignment, (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0))) {}
  ~Aligned() { std::free(data_); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  void* get() const { return data_; }

 private:
  void* data_;
};

// Runs the calls one after the other, last one first: results must not depend on the order.
inline void backwards(void*, std::size_t count, void (*fn)(void*, std::size_t), void* arg) {
  for (std::size_t i = count; i > 0; --i) fn(arg, i - 1);
}

inline qcompiler::cpu::Parallel threads(int count) {
  qcompiler::cpu::Parallel parallel;
  parallel.parallel_for = backwards;
  parallel.threads = count;
  return parallel;
}

// Every test gets the path that is active. `quick` keeps to shapes that an emulator can run.
void test_dispatch();
void test_pack();
void test_packed_cache();
void test_weights();
void test_product(const char* path, bool quick);
void test_stages(const char* path);
void test_blocks(const char* path, bool quick);
void test_row_norm(const char* path, bool quick);
void test_rotate(const char* path, bool quick);
void test_linear(const char* path, bool quick);
void test_attention(const char* path, bool quick);
void test_half(const char* path);
void test_threads(bool quick);

#endif  // QCOMPILER_RUNTIME_TESTS_CHECK_H_
