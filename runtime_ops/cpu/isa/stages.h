// The float stages, written once and compiled once per instruction set.
//
// A source file includes one *_simd.h and then this file. Everything lives in unnamed namespaces, and no library
// header with inline functions may follow: an inline function compiled with and without AVX512 is one function for
// the linker, and the copy it keeps would crash an older processor.
#include "math.h"

#include "layer_norm.h"
#include "row_norm.h"
#include "rotate.h"
#include "ranges.h"
#include "quantize.h"
#if defined(QC_PORTABLE)
#include "portable_map_bytes.h"
#else
#include "map_bytes.h"
#endif
#include "blocks.h"
#include "epilogue.h"
#include "softmax.h"
#include "half.h"

namespace qcompiler {
namespace cpu {
namespace {

constexpr Stages kStages = {
    row_stats,  normalize,     row_norm,          rotate_rows,     channel_ranges, row_ranges,
    assign,     quantize_rows, quantize_channels, quantize_blocks, epilogue,       add_segment,
    scores,     softmax,       map_bytes,         from_half,       to_half,
};

}  // namespace
}  // namespace cpu
}  // namespace qcompiler
