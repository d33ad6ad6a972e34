#include "packed_cache.h"

#include <sys/mman.h>

#include <cstring>
#include <iterator>
#include <mutex>
#include <new>
#include <unordered_map>

#include "kernels.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr std::align_val_t kAlignment{kScratchAlignment};
constexpr std::size_t kOwnPages = 256 * 1024;  // from this size on

// One word of every cache line: a wrong guess costs a comparison that fails, never a wrong result.
std::uint64_t hash(const std::int8_t* bytes, std::size_t size) noexcept {
  std::uint64_t state = size;
  for (std::size_t i = 0; i + sizeof(std::uint64_t) <= size; i += kScratchAlignment) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i, sizeof word);
    state = (state ^ word) * 0x9e3779b97f4a7c15u;
    state ^= state >> 32;
  }
  return state;
}

struct Entry {
  std::weak_ptr<const std::int8_t> bytes;
  std::size_t size;
};

struct Cache {
  std::mutex mutex;
  std::unordered_multimap<std::uint64_t, Entry> entries;

  // Never destroyed: sessions may outlive the static objects of this library.
  static Cache& instance() {
    static Cache& cache = *new Cache;
    return cache;
  }
};

}  // namespace

void PackedBuilder::Free::operator()(std::int8_t* bytes) const noexcept {
  if (size >= kOwnPages) {
    munmap(bytes, size);
  } else {
    ::operator delete(bytes, kAlignment);
  }
}

PackedBuilder::PackedBuilder(std::size_t size) : bytes_(nullptr, Free{size}) {
  if (size >= kOwnPages) {
    void* const pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    bytes_.reset(static_cast<std::int8_t*>(pages));
  } else {
    bytes_.reset(static_cast<std::int8_t*>(::operator new(size, kAlignment)));
    std::memset(bytes_.get(), 0, size);
  }
}

PackedWeights PackedBuilder::share() {
  PackedWeights out;
  const std::size_t size = bytes_.get_deleter().size;
  out.size_ = size;
  const std::uint64_t key = hash(bytes_.get(), size);
  Cache& cache = Cache::instance();
  const std::lock_guard<std::mutex> lock(cache.mutex);
  for (auto it = cache.entries.begin(); it != cache.entries.end();) {
    it = it->second.bytes.expired() ? cache.entries.erase(it) : std::next(it);
  }
  const auto range = cache.entries.equal_range(key);
  for (auto it = range.first; it != range.second; ++it) {
    if (it->second.size != size) continue;
    out.bytes_ = it->second.bytes.lock();
    if (out.bytes_ != nullptr && std::memcmp(out.bytes_.get(), bytes_.get(), size) == 0) {
      bytes_.reset();
      return out;
    }
  }
  out.bytes_ = std::shared_ptr<const std::int8_t>(bytes_.release(), Free{size});
  cache.entries.emplace(key, Entry{out.bytes_, size});
  return out;
}

PackedTotals packed_totals() noexcept {
  Cache& cache = Cache::instance();
  const std::lock_guard<std::mutex> lock(cache.mutex);
  PackedTotals totals;
  for (const auto& item : cache.entries) {
    if (item.second.bytes.expired()) continue;
    ++totals.blocks;
    totals.bytes += item.second.size;
  }
  return totals;
}

}  // namespace cpu
}  // namespace qcompiler
