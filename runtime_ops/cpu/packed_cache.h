// Packed weights, one copy per process: the sessions of one model share them, and the last one frees them.
//
// Sharing is decided by comparing bytes, after packing, so what the bytes stand for (path, format, quantizer) needs no
// key and weights that only look alike are never mixed up.
#ifndef QCOMPILER_CPU_PACKED_CACHE_H_
#define QCOMPILER_CPU_PACKED_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

namespace qcompiler {
namespace cpu {

// Bytes of which no two live blocks are equal; a copy is another reader of the same block.
class PackedWeights {
 public:
  const std::int8_t* data() const noexcept { return bytes_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  friend class PackedBuilder;

  std::shared_ptr<const std::int8_t> bytes_;
  std::size_t size_ = 0;
};

// A block that is being written: zeros, aligned to kScratchAlignment. May throw std::bad_alloc.
//
// Large blocks are pages of their own, so that the system has them back when the last session goes; freed blocks of the
// heap would stay with the process.
class PackedBuilder {
 public:
  explicit PackedBuilder(std::size_t size);

  std::int8_t* data() noexcept { return bytes_.get(); }
  // This block, or the equal one that the process already has. The builder is empty afterwards.
  PackedWeights share();

 private:
  struct Free {
    std::size_t size;
    void operator()(std::int8_t* bytes) const noexcept;
  };
  std::unique_ptr<std::int8_t, Free> bytes_;
};

// What is alive in this process.
struct PackedTotals {
  std::size_t blocks = 0;
  std::size_t bytes = 0;
};
PackedTotals packed_totals() noexcept;

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_PACKED_CACHE_H_
