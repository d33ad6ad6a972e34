#include "half.h"

#include <algorithm>

#include "../reference/reference.h"
#include "parallel.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr std::int64_t kPiece = 1 << 14;  // values that are worth another thread

// convert(begin, count) over [0, total).
template <typename Convert>
void in_pieces(std::int64_t total, const Parallel& parallel, const Convert& convert) {
  const std::int64_t pieces = std::min<std::int64_t>(std::max(parallel.threads, 1), (total + kPiece - 1) / kPiece);
  run_tasks(parallel, pieces, [&](int, std::int64_t index) {
    const Part part(total, kPanel, pieces, index);
    convert(part.begin, part.end - part.begin);
  });
}

}  // namespace

void from_half(const Path& path, const Half* x, std::int64_t count, float* out, const Parallel& parallel) {
  if (is_reference(path)) {
    std::transform(x, x + count, out, reference::from_half);
    return;
  }
  in_pieces(count, parallel, [&](std::int64_t begin, std::int64_t size) {
    path.stages->from_half(x + begin, static_cast<std::ptrdiff_t>(size), out + begin);
  });
}

void to_half(const Path& path, const float* x, std::int64_t count, Half* out, const Parallel& parallel) {
  if (is_reference(path)) {
    std::transform(x, x + count, out, reference::to_half);
    return;
  }
  in_pieces(count, parallel, [&](std::int64_t begin, std::int64_t size) {
    path.stages->to_half(x + begin, static_cast<std::ptrdiff_t>(size), out + begin);
  });
}

}  // namespace cpu
}  // namespace qcompiler
