// Public interface of the CPU kernels: quantized linear layers and attention.
//
// Framework-free: plain pointers, no exceptions, no allocation while running. The caller checks shapes and types;
// the kernels check only what could corrupt memory or overflow an integer accumulator.
//
// Build every source of this folder and of reference/ with `-std=c++17 -O2 -ffp-contract=off`. No -m flags: each
// instruction set is enabled function by function. Contraction must stay off: `(acc * outer) * w_scale + bias` is
// defined with a rounding after every operation, and codes are compared between paths.
//
// Life of an operator:
//   1. linear_create / attention_create   once: checks and copies the constants, packs the weights for the active path
//   2. *_scratch_bytes                    per problem size: bytes of scratch that a run needs
//   3. *_run                              per call; reentrant, the created object is never written after creation
//      (*_half_scratch_bytes and *_run_half where the tensors are float16)
//   4. *_destroy
#ifndef QCOMPILER_CPU_KERNELS_H_
#define QCOMPILER_CPU_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace qcompiler {
namespace cpu {

// nullptr means success; otherwise one line of text, valid until the next failing call on the same thread.
using Status = const char*;

// ---- Paths -------------------------------------------------------------------------------------------------------

struct PathInfo {
  const char* name;  // "reference", "portable", "ssse3", "avx2", "avxvnni", "avx512vnni", "amx"
  bool built;        // compiled into this library
  bool detected;     // this processor and operating system can run it
  bool active;       // the one that new operators are created for
};

// Paths in order of preference, slowest first. `index` runs from 0 to path_count() - 1.
int path_count() noexcept;
PathInfo path_info(int index) noexcept;

// nullptr if the environment variable QCOMPILER_CPU_PATH is unset, empty or names a usable path; otherwise what is
// wrong with it. While it is wrong every *_create fails with the same text. The variable is read once.
Status path_status() noexcept;

// Makes `name` the active path of this process for operators created from now on (nullptr: back to the automatic
// choice, including QCOMPILER_CPU_PATH). Operators that exist keep the path that they were created for.
Status select_path(const char* name) noexcept;

// ---- Tensors -----------------------------------------------------------------------------------------------------

// A float16 value (IEEE binary16), as its bits.
struct Half {
  std::uint16_t bits;
};

// The tensors of a call are all float or all Half; constants are float32 either way. On Half an operator converts them
// exactly to float32, does what it does on float, and rounds the result once, to nearest, ties to even.

// ---- Threads -----------------------------------------------------------------------------------------------------

// Calls fn(arg, i) once for every i in [0, count), concurrently or not, and returns when all have returned.
// Calls of one `parallel_for` never depend on each other.
struct Parallel {
  void (*parallel_for)(void* ctx, std::size_t count, void (*fn)(void* arg, std::size_t index), void* arg) = nullptr;
  void* ctx = nullptr;
  int threads = 1;  // upper bound of `count`; the same number must be given to *_scratch_bytes
};

// Scratch memory must be aligned to this many bytes.
constexpr std::size_t kScratchAlignment = 64;

// ---- Group quantizers --------------------------------------------------------------------------------------------

// float32 [count, 6], columns: lower, upper, scale, zero_point, multiplier, outer.
struct GroupTable {
  const float* data = nullptr;
  std::int32_t count = 0;
};

// ---- Blocks ------------------------------------------------------------------------------------------------------

// A row in blocks of its channels: every block has an integer multiple of the row's outer scale as its step.
struct BlockSpec {
  int bits = 4;            // 2 to 7
  std::int64_t block = 0;  // channels of one block; divides those of the row
  float clip = 1.0f;       // share of a block's range that the codes cover, in (0, 1]
  float slack = 0.0f;      // steps by which a range may exceed the codes, in [0, 0.5]
};

// ---- Linear layer ------------------------------------------------------------------------------------------------

enum class WeightType { kInt4, kInt8 };  // kInt4: two's complement nibbles, low nibble first, row-major flattened
enum class Grouping {
  kRows,      // axis = -2: a token is an item
  kChannels,  // axis = -1, segments = 0: integer multiples of one base scale
  kSegments,  // axis = -1, segments = 1: any scales, one accumulation per group
  kBlocks,    // a token's channels in blocks, each with an integer multiple of the token's own scale; no group table
};
enum class Gelu { kNone, kErf, kTanh };

// [LayerNormalization ->] [rotation ->] [row norm ->] quantize -> integer product -> scales, bias [-> GELU]
// [-> + residual].
// Everything is copied at creation; the pointers may be released afterwards.
struct LinearSpec {
  std::int64_t channels = 0;  // C
  std::int64_t outputs = 0;   // D
  const void* weight = nullptr;  // [C, D] row-major
  WeightType weight_type = WeightType::kInt8;
  // [weight_blocks, D], or nullptr for plain weights. Block b of output d is a run of C / weight_blocks input channels;
  // its byte is multiplier << 4 | zero_point + 8, and the operand clip(multiplier * (weight - zero_point), -127, 127).
  const std::uint8_t* w_blocks = nullptr;
  std::int64_t weight_blocks = 0;
  const float* w_scale = nullptr;  // [D]
  const float* bias = nullptr;     // [D], or nullptr for zeros
  GroupTable groups;
  int bits = 8;  // kBlocks: 2 to 7
  Grouping grouping = Grouping::kRows;
  std::int64_t block = 0;  // kBlocks: see BlockSpec
  float clip = 1.0f;
  float slack = 0.0f;
  // Channels that become their Walsh-Hadamard transform together (after LayerNormalization): a power of two up to 128
  // that divides C; 1 for none. The weights are those of the rotated channels.
  std::int64_t rotate = 1;
  Gelu gelu = Gelu::kNone;
  const float* gamma = nullptr;  // [C]; nullptr: no LayerNormalization in front
  const float* beta = nullptr;   // [C], or nullptr for zeros
  float epsilon = 1e-5f;
  bool normalize = false;  // divide every row by its root mean square (after LayerNormalization); see RowNorm's body

  BlockSpec blocks() const { return {bits, block, clip, slack}; }
};

template <typename T>
struct LinearCallOf {
  const T* x = nullptr;         // [batch, rows, C] contiguous
  const T* residual = nullptr;  // [batch, rows, D] contiguous, or nullptr; may be equal to y
  T* y = nullptr;               // [batch, rows, D] contiguous
  std::int64_t batch = 1;       // instances: product of all axes in front of the token axis
  std::int64_t rows = 0;        // N, tokens of one instance
};
using LinearCall = LinearCallOf<float>;
using HalfLinearCall = LinearCallOf<Half>;

struct Linear;  // opaque

Status linear_create(const LinearSpec& spec, Linear** out) noexcept;
void linear_destroy(Linear* linear) noexcept;
std::size_t linear_scratch_bytes(const Linear* linear, std::int64_t batch, std::int64_t rows, int threads) noexcept;
Status linear_run(const Linear* linear, const LinearCall& call, void* scratch, const Parallel& parallel) noexcept;
std::size_t linear_half_scratch_bytes(const Linear* linear, const HalfLinearCall& call, int threads) noexcept;
Status linear_run_half(const Linear* linear, const HalfLinearCall& call, void* scratch,
                       const Parallel& parallel) noexcept;

// ---- Attention ---------------------------------------------------------------------------------------------------

struct AttentionSpec {
  std::int64_t num_heads = 0;
  float scale = 1.0f;  // of the scores, usually 1 / sqrt(head_dim)
  GroupTable q, k, v, p;
  int bits = 8;  // of q, k and v
  // Instead of the tables of q, k and v: the head_dim channels of a token in blocks. All tokens of v have one scale.
  bool in_blocks = false;
  BlockSpec qk_blocks, v_blocks;
  const std::uint8_t* levels = nullptr;  // [num_levels] operand of each level of the probabilities
  std::int32_t num_levels = 0;           // 1 .. 256
};

template <typename T>
struct AttentionCallOf {
  const T* qkv = nullptr;       // [batch, tokens, 3 * num_heads * head_dim] contiguous: q | k | v, each head-major
  const T* bias = nullptr;      // [bias_batch, bias_heads, tokens, tokens], or nullptr
  std::int64_t bias_batch = 0;  // divides batch; row b uses bias[b % bias_batch]
  std::int64_t bias_heads = 0;  // num_heads or 1
  T* y = nullptr;               // [batch, tokens, num_heads * head_dim] contiguous
  std::int64_t batch = 1;
  std::int64_t tokens = 0;    // N
  std::int64_t head_dim = 0;  // D
};
using AttentionCall = AttentionCallOf<float>;
using HalfAttentionCall = AttentionCallOf<Half>;

struct Attention;  // opaque

Status attention_create(const AttentionSpec& spec, Attention** out) noexcept;
void attention_destroy(Attention* attention) noexcept;
std::size_t attention_scratch_bytes(const Attention* attention, std::int64_t batch, std::int64_t tokens,
                                    std::int64_t head_dim, int threads) noexcept;
Status attention_run(const Attention* attention, const AttentionCall& call, void* scratch,
                     const Parallel& parallel) noexcept;
std::size_t attention_half_scratch_bytes(const Attention* attention, const HalfAttentionCall& call,
                                         int threads) noexcept;
Status attention_run_half(const Attention* attention, const HalfAttentionCall& call, void* scratch,
                          const Parallel& parallel) noexcept;

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_KERNELS_H_
