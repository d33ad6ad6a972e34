#include "detect.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <cstdint>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace qcompiler {
namespace cpu {

bool detect_always() noexcept { return true; }

#if defined(__x86_64__)
namespace {

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) noexcept {
  Registers r;
  // Reports failure for a leaf above the maximum, where cpuid itself would answer with another leaf.
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return Registers();
  return r;
}

bool bit(unsigned value, int index) noexcept { return (value >> index & 1u) != 0; }

// State components that the operating system saves; the instruction bits of cpuid say nothing about it.
std::uint64_t saved_state() noexcept {
  if (!bit(cpuid(1).ecx, 27)) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

bool saves(std::uint64_t components) noexcept { return (saved_state() & components) == components; }

constexpr std::uint64_t kYmm = 0x6;              // SSE, AVX
constexpr std::uint64_t kZmm = kYmm | 0xe0;      // opmask, upper halves of zmm0-15, zmm16-31
constexpr std::uint64_t kTiles = kZmm | 0x60000; // tile configuration, tile data

// Tile data is off in a new process until it is asked for; without the request the first tile instruction faults.
bool request_tiles() noexcept {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

bool detect_ssse3() noexcept { return bit(cpuid(1).ecx, 9); }

bool detect_avx2() noexcept {
  const Registers r = cpuid(1);
  return saves(kYmm) && bit(r.ecx, 12) /* FMA */ && bit(r.ecx, 29) /* F16C */ && bit(cpuid(7).ebx, 5) /* AVX2 */;
}

bool detect_avxvnni() noexcept {
  return detect_avx2() && cpuid(7).eax >= 1 /* last subleaf */ && bit(cpuid(7, 1).eax, 4) /* AVX-VNNI */;
}

bool detect_avx512vnni() noexcept {
  const Registers r = cpuid(7);
  return detect_avx2() && saves(kZmm) && bit(r.ebx, 16) /* F */ && bit(r.ebx, 17) /* DQ */ &&
         bit(r.ebx, 30) /* BW */ && bit(r.ebx, 31) /* VL */ && bit(r.ecx, 11) /* VNNI */;
}

bool detect_amx() noexcept {
  const Registers r = cpuid(7);
  return detect_avx512vnni() && saves(kTiles) && bit(r.edx, 24) /* TILE */ && bit(r.edx, 25) /* INT8 */ &&
         request_tiles();
}
#else
bool detect_ssse3() noexcept { return false; }
bool detect_avx2() noexcept { return false; }
bool detect_avxvnni() noexcept { return false; }
bool detect_avx512vnni() noexcept { return false; }
bool detect_amx() noexcept { return false; }
#endif

}  // namespace cpu
}  // namespace qcompiler
