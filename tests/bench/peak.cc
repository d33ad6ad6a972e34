// Peak of the instruction that a CPU path multiplies bytes with: on registers alone, many independent sums.
//
//   c++ -std=c++17 -O2 -o peak peak.cc && ./peak avx2
//
// Prints the GOPS of one thread, a multiplication and an addition counted as two; the best of several runs.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>

#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int kSteps = 20000;

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Sums of pairs in 16 bits: the fastest that AVX2 can do with bytes.
__attribute__((target("avx2"))) double run_avx2() {
  const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  __m256i sum[10];
#pragma GCC unroll 10
  for (auto& s : sum) s = _mm256_setzero_si256();
  for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 10
    for (int k = 0; k < 10; ++k) {
      __m256i product;
      __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(product) : "x"(a), "x"(b));
      __asm__ volatile("vpaddw %1, %0, %0" : "+x"(sum[k]) : "x"(product));
    }
  }
  return 10.0 * kSteps * 32;
}

__attribute__((target("avx2"))) double run_avxvnni() {
  const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  __m256i sum[12];
#pragma GCC unroll 12
  for (auto& s : sum) s = _mm256_setzero_si256();
  for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum[k]) : "x"(a), "x"(b));
  }
  return 12.0 * kSteps * 32;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) double run_avx512vnni() {
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  __m512i sum[16];
#pragma GCC unroll 16
  for (auto& s : sum) s = _mm512_setzero_si512();
  for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[k]) : "v"(a), "v"(b));
  }
  return 16.0 * kSteps * 64;
}

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};
};

__attribute__((target("amx-tile,amx-int8"))) double run_amx() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) return 0.0;
  TileConfig config;
  for (int t = 0; t < 6; ++t) {
    config.bytes[t] = 64;
    config.rows[t] = 16;
  }
  __asm__ volatile("" : : "r"(&config) : "memory");  // GCC's intrinsic claims to read 8 bytes of it only
  _tile_loadconfig(&config);
  for (int i = 0; i < kSteps / 10; ++i) {
    _tile_dpbusd(0, 4, 5);
    _tile_dpbusd(1, 4, 5);
    _tile_dpbusd(2, 4, 5);
    _tile_dpbusd(3, 4, 5);
  }
  _tile_release();
  return 4.0 * (kSteps / 10) * 16 * 16 * 64;
}

}  // namespace

int main(int argc, char** argv) {
  const struct {
    const char* name;
    double (*run)();
  } paths[] = {{"avx2", run_avx2}, {"avxvnni", run_avxvnni}, {"avx512vnni", run_avx512vnni}, {"amx", run_amx}};
  for (const auto& path : paths) {
    if (argc != 2 || std::strcmp(path.name, argv[1]) != 0) continue;
    double best = 0.0;
    for (int i = 0; i < 50; ++i) {
      const double start = thread_seconds();
      const double products = path.run();
      const double gops = 2e-9 * products / (thread_seconds() - start);
      if (gops > best) best = gops;
    }
    std::printf("%.1f\n", best);
    return best > 0.0 ? 0 : 1;
  }
  std::fprintf(stderr, "usage: peak avx2 | avxvnni | avx512vnni | amx (one that this processor has)\n");
  return 2;
}
#else
int main() {
  std::fprintf(stderr, "no peak is known for this processor\n");
  return 2;
}
#endif
