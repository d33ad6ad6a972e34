// Creation of attention operators and the public entry points.
#include "attention.h"

#include <algorithm>
#include <memory>
#include <new>

#include "../reference/reference.h"
#include "checks.h"
#include "error.h"
#include "scratch.h"

namespace qcompiler {
namespace cpu {
namespace {

void copy_table(const GroupTable& from, std::vector<float>* copy, GroupTable* to) {
  copy->assign(from.data, from.data + 6 * static_cast<std::size_t>(from.count));
  to->data = copy->data();
}

Status prepare_qkv_tables(const AttentionSpec& spec, Attention* attention) {
  Status status = nullptr;
  if ((status = attention->q.prepare(spec.q, spec.bits, Operand::kUnsigned, "attention q")) != nullptr) return status;
  if ((status = attention->k.prepare(spec.k, spec.bits, Operand::kSigned, "attention k")) != nullptr) return status;
  if ((status = attention->v.prepare(spec.v, spec.bits, Operand::kSigned, "attention v")) != nullptr) return status;
  copy_table(spec.q, &attention->tables[0], &attention->spec.q);
  copy_table(spec.k, &attention->tables[1], &attention->spec.k);
  copy_table(spec.v, &attention->tables[2], &attention->spec.v);
  return nullptr;
}

Status prepare_qkv_blocks(const AttentionSpec& spec, Attention* attention) {
  Status status = prepare_blocks(spec.qk_blocks, Operand::kUnsigned, "attention q", &attention->q_blocks);
  if (status == nullptr) status = prepare_blocks(spec.qk_blocks, Operand::kSigned, "attention k", &attention->k_blocks);
  if (status == nullptr) status = prepare_blocks(spec.v_blocks, Operand::kSigned, "attention v", &attention->v_blocks);
  attention->q.max_byte = 2 * kBlockOffset;
  attention->k.max_magnitude = attention->v.max_magnitude = kBlockOffset;
  return status;
}

Status create(const AttentionSpec& spec, Attention* attention) {
  Status status = nullptr;
  attention->path = active_path(&status);
  if (attention->path == nullptr) return status;
  if ((status = check_attention(spec)) != nullptr) return status;
  attention->spec = spec;
  status = spec.in_blocks ? prepare_qkv_blocks(spec, attention) : prepare_qkv_tables(spec, attention);
  if (status != nullptr) return status;
  if ((status = attention->p.prepare_levels(spec.p, spec.num_levels, "attention p")) != nullptr) return status;

  attention->levels.assign(256, 0);
  std::copy(spec.levels, spec.levels + spec.num_levels, attention->levels.begin());
  attention->identity = true;
  for (int t = 0; t < spec.num_levels; ++t) {
    attention->identity = attention->identity && spec.levels[t] == t;
    attention->max_level = std::max(attention->max_level, static_cast<int>(spec.levels[t]));
  }

  attention->spec.levels = attention->levels.data();
  copy_table(spec.p, &attention->tables[3], &attention->spec.p);
  if (!is_reference(*attention->path)) {
    attention->k_format = choose_format(*attention->path, attention->q.max_byte, attention->k.max_magnitude);
    attention->v_format = choose_format(*attention->path, attention->max_level, attention->v.max_magnitude);
  }
  return nullptr;
}

}  // namespace

Status attention_create(const AttentionSpec& spec, Attention** out) noexcept {
  *out = nullptr;
  try {
    std::unique_ptr<Attention> attention(new Attention);
    if (Status status = create(spec, attention.get())) return status;
    *out = attention.release();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return error("attention: out of memory");
  }
}

void attention_destroy(Attention* attention) noexcept { delete attention; }

std::size_t attention_scratch_bytes(const Attention* attention, std::int64_t batch, std::int64_t tokens,
                                    std::int64_t head_dim, int threads) noexcept {
  if (is_reference(*attention->path) || batch < 1 || tokens < 1 || head_dim < 1) return 0;
  return attention_scratch(*attention, batch, tokens, head_dim, threads);
}

Status attention_run(const Attention* attention, const AttentionCall& call, void* scratch,
                     const Parallel& parallel) noexcept {
  if (Status status = check_attention_call(attention->spec, call)) return status;
  if (call.batch == 0 || call.tokens == 0 || call.head_dim == 0) return nullptr;
  if (is_reference(*attention->path)) {
    try {
      reference::group_attention(attention->spec, call);
      return nullptr;
    } catch (const std::bad_alloc&) {
      return error("attention: out of memory");
    }
  }
  if (Status status = check_scratch("attention", scratch)) return status;
  run_attention(*attention, call, scratch, parallel);
  return nullptr;
}

}  // namespace cpu
}  // namespace qcompiler
