// An attention operator as created.
#ifndef QCOMPILER_CPU_ATTENTION_H_
#define QCOMPILER_CPU_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "pack.h"
#include "path.h"
#include "quantizer.h"

namespace qcompiler {
namespace cpu {

struct Attention {
  const Path* path = nullptr;
  AttentionSpec spec;  // its pointers go into the copies below
  std::vector<float> tables[4];
  GroupQuantizer q, k, v, p;
  BlockQuantizer q_blocks = {}, k_blocks = {}, v_blocks = {};  // spec.in_blocks: instead of the tables of q, k and v
  std::vector<std::uint8_t> levels;  // padded to 256
  bool identity = false;             // level t is t: nothing to look up
  int max_level = 0;
  PanelFormat k_format, v_format;
};

std::size_t attention_scratch(const Attention& attention, std::int64_t batch, std::int64_t tokens,
                              std::int64_t head_dim, int threads);
void run_attention(const Attention& attention, const AttentionCall& call, void* scratch, const Parallel& parallel);

}  // namespace cpu
}  // namespace qcompiler

#endif  // QCOMPILER_CPU_ATTENTION_H_
