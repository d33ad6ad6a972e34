// Attention operators: constants on the device, and the three kernels in order on the stream.
#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "../cpu/checks.h"
#include "attention.cuh"
#include "interface.h"
#include "quantizer.h"

namespace qcompiler {
namespace cuda {

struct Attention {
  WorkspaceUser workspace;
  Constants constants;
  int device = 0;
  DeviceLimits limits;

  cpu::AttentionSpec spec;  // without its pointers
  cpu::BlockQuantizer qk_blocks = {}, v_blocks = {};
  TableConstants q, k, v, p;
  std::size_t levels = 0;
};

namespace {

Status add_table(const cpu::GroupTable& table, int bits, const char* name, Constants* constants, TableConstants* out) {
  cpu::GroupQuantizer quantizer;
  if (Status status = quantizer.prepare(table, bits, cpu::Operand::kSigned, name)) return status;
  out->add(quantizer, constants);
  return nullptr;
}

Status create(const cpu::AttentionSpec& spec, Attention* attention) {
  Status status = cpu::check_attention(spec);
  if (status != nullptr) return status;
  attention->spec = spec;
  Constants& constants = attention->constants;
  if (spec.in_blocks) {
    status = cpu::prepare_blocks(spec.qk_blocks, cpu::Operand::kSigned, "attention q", &attention->qk_blocks);
    if (status != nullptr) return status;
    status = cpu::prepare_blocks(spec.v_blocks, cpu::Operand::kSigned, "attention v", &attention->v_blocks);
    if (status != nullptr) return status;
  } else {
    if ((status = add_table(spec.q, spec.bits, "attention q", &constants, &attention->q)) != nullptr) return status;
    if ((status = add_table(spec.k, spec.bits, "attention k", &constants, &attention->k)) != nullptr) return status;
    if ((status = add_table(spec.v, spec.bits, "attention v", &constants, &attention->v)) != nullptr) return status;
  }
  cpu::GroupQuantizer probabilities;
  if ((status = probabilities.prepare_levels(spec.p, spec.num_levels, "attention p")) != nullptr) return status;
  attention->p.add(probabilities, &constants);
  attention->levels = constants.add(spec.levels, static_cast<std::size_t>(spec.num_levels), 256);
  if ((status = launch_status("device", cudaGetDevice(&attention->device))) != nullptr) return status;
  if ((status = DeviceLimits::read(attention->device, &attention->limits)) != nullptr) return status;
  return constants.upload();
}

// How one kernel is launched; without shared memory its buffers lie in scratch memory.
struct Plan {
  std::size_t shared = 0;
  long long blocks = 1;
  long long buffer_bytes = 0;  // of one buffer
  long long buffers = 0;

  // `each`: bytes of one buffer, `per_block` of them in a block.
  Plan(const Attention& attention, long long wanted, long long each, int per_block) : buffer_bytes(each) {
    if (static_cast<std::size_t>(each * per_block) <= attention.limits.shared_bytes) {
      shared = static_cast<std::size_t>(each * per_block);
      blocks = std::min(wanted, 1LL << 30);
    } else {
      blocks = std::min(wanted, 2LL * attention.limits.processors);
      buffers = blocks * per_block;
    }
  }
  std::ptrdiff_t scratch() const { return static_cast<std::ptrdiff_t>(buffers * buffer_bytes); }
};

struct Plans {
  Plan rows, values, attend;

  template <typename T>
  Plans(const Attention& attention, const cpu::AttentionCallOf<T>& call, int token_bytes)
      : rows(attention, (2 * call.batch * call.tokens * attention.spec.num_heads + kHeadWarps - 1) / kHeadWarps,
             4 * row_buffer_floats(static_cast<int>(call.head_dim), row_blocks(attention, call.head_dim)), kHeadWarps),
        values(attention, call.batch * attention.spec.num_heads, ValueMemory::bytes(static_cast<int>(call.head_dim)), 1),
        attend(attention, call.batch * attention.spec.num_heads * ((call.tokens + kAttendRows - 1) / kAttendRows),
               attend_bytes(token_bytes), 1) {}

  static int row_blocks(const Attention& attention, std::int64_t head_dim) {
    return attention.spec.in_blocks ? static_cast<int>(head_dim / attention.spec.qk_blocks.block) : 0;
  }
};

std::size_t lay_out(const Plans& plans, void* memory, AttentionProblem* p) {
  cpu::Arena arena(memory);
  const std::ptrdiff_t heads = p->batch * p->heads;
  p->q_bytes = arena.take<unsigned char>(heads * p->tokens * p->row_bytes);
  p->k_bytes = arena.take<unsigned char>(heads * p->tokens * p->row_bytes);
  p->v_bytes = arena.take<unsigned char>(heads * p->head_dim * p->token_bytes);
  p->q_scale = arena.take<float>(heads * p->tokens);
  p->k_scale = arena.take<float>(heads * p->tokens);
  p->v_scale = arena.take<float>(heads * p->head_dim);
  p->buffers = arena.take<unsigned char>(std::max({plans.rows.scratch(), plans.values.scratch(), plans.attend.scratch()}));
  return arena.used();
}

HeadQuantizer head_quantizer(const Attention& attention, const TableConstants& table, const cpu::BlockQuantizer& blocks) {
  HeadQuantizer q = {};
  q.in_blocks = attention.spec.in_blocks;
  q.blocks = blocks;
  if (q.in_blocks) return q;
  q.groups = table.bounds(attention.constants);
  q.steps = attention.constants.at<Step>(table.steps);
  q.outers = attention.constants.at<float>(table.outers);
  return q;
}

template <typename T>
AttentionProblem describe(const Attention& attention, const cpu::AttentionCallOf<T>& call) {
  AttentionProblem p = {};
  p.bias_batch = static_cast<int>(call.bias_batch);
  p.bias_heads = static_cast<int>(call.bias_heads);
  p.batch = call.batch;
  p.tokens = static_cast<int>(call.tokens);
  p.heads = static_cast<int>(attention.spec.num_heads);
  p.head_dim = static_cast<int>(call.head_dim);
  p.scale = attention.spec.scale;
  p.q = head_quantizer(attention, attention.q, attention.qk_blocks);
  p.k = head_quantizer(attention, attention.k, attention.qk_blocks);
  p.v = head_quantizer(attention, attention.v, attention.v_blocks);
  p.p_groups = attention.p.bounds(attention.constants);
  p.p_steps = attention.constants.at<Step>(attention.p.steps);
  p.p_outers = attention.constants.at<float>(attention.p.outers);
  p.levels = attention.constants.at<unsigned char>(attention.levels);
  p.row_bytes = static_cast<int>(cpu::round_up(call.head_dim, kProductDepth));
  p.token_bytes = static_cast<int>(cpu::round_up(call.tokens, kProductDepth));
  return p;
}

template <typename... Tensors>
Status launch_step(const char* what, void (*in_shared)(AttentionProblem, Tensors...),
                   void (*in_buffers)(AttentionProblem, Tensors...), const Plan& plan, int threads, AttentionProblem p,
                   cudaStream_t stream, Tensors... tensors) {
  p.buffer_bytes = static_cast<int>(plan.buffer_bytes);
  return launch(what, plan.buffers == 0 ? in_shared : in_buffers, dim3(static_cast<unsigned>(plan.blocks)), threads,
                plan.shared, stream, p, tensors...);
}

template <typename T>
Status enqueue(const Plans& plans, const AttentionProblem& p, const cpu::AttentionCallOf<T>& call, cudaStream_t stream) {
  Status status = launch_step("attention q, k", quantize_queries_and_keys<true, T>, quantize_queries_and_keys<false, T>,
                              plans.rows, kHeadThreads, p, stream, call.qkv);
  if (status != nullptr) return status;
  status = launch_step("attention v", quantize_values<true, T>, quantize_values<false, T>, plans.values, kHeadThreads, p,
                       stream, call.qkv);
  if (status != nullptr) return status;
  return launch_step("attention", attend<true, T>, attend<false, T>, plans.attend, kAttendThreads, p, stream, call.bias,
                     call.y);
}

template <typename T>
Status run(const Attention* attention, const cpu::AttentionCallOf<T>& call, void* stream) {
  if (Status status = cpu::check_attention_call(attention->spec, call)) return status;
  if (call.batch == 0 || call.tokens == 0 || call.head_dim == 0) return nullptr;
  try {
    const CurrentDevice device(attention->device);
    AttentionProblem problem = describe(*attention, call);
    const Plans plans(*attention, call, problem.token_bytes);
    const Workspace workspace(attention->device, static_cast<cudaStream_t>(stream), lay_out(plans, nullptr, &problem));
    if (workspace.status() != nullptr) return workspace.status();
    lay_out(plans, workspace.data(), &problem);
    return enqueue(plans, problem, call, static_cast<cudaStream_t>(stream));
  } catch (const std::bad_alloc&) {
    return cpu::error("attention: out of memory");
  }
}

}  // namespace

Status attention_create(const cpu::AttentionSpec& spec, Attention** out) noexcept {
  *out = nullptr;
  try {
    std::unique_ptr<Attention> attention(new Attention);
    if (Status status = create(spec, attention.get())) return status;
    *out = attention.release();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return cpu::error("attention: out of memory");
  }
}

void attention_destroy(Attention* attention) noexcept { delete attention; }

Status attention_run(const Attention* attention, const cpu::AttentionCall& call, void* stream) noexcept {
  return run(attention, call, stream);
}

Status attention_run_half(const Attention* attention, const cpu::HalfAttentionCall& call, void* stream) noexcept {
  return run(attention, call, stream);
}

}  // namespace cuda
}  // namespace qcompiler
