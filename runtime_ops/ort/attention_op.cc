// GroupAttention, GroupAttentionBias.
#include "cpu/kernels.h"
#include "ort/custom_op.h"
#include "ort/group_table.h"

namespace qcompiler {
namespace ort {
namespace {

enum Part : unsigned { kBias = 1 };
enum Input : std::size_t { kQkv, kQGroups, kKGroups, kVGroups, kPGroups, kLevels, kBiasInput };

class AttentionKernel final : public Kernel {
 public:
  AttentionKernel(const KernelInfo& info, unsigned parts) : bias_(parts & kBias) {
    cpu::AttentionSpec spec;
    spec.num_heads = heads_ = info.integer("num_heads");
    if (heads_ < 1) throw Error("attribute 'num_heads' is " + std::to_string(heads_) + ", expected a positive number");
    spec.scale = info.number("scale");
    spec.bits = bits_attribute(info);
    spec.q = group_table(info, kQGroups, "q_groups", TableUse::kSignedBytes, spec.bits);
    spec.k = group_table(info, kKGroups, "k_groups", TableUse::kSignedBytes, spec.bits);
    spec.v = group_table(info, kVGroups, "v_groups", TableUse::kSignedBytes, spec.bits);
    spec.p = group_table(info, kPGroups, "p_groups", TableUse::kProbabilities, spec.bits);
    const Tensor levels = info.constant(kLevels, "levels");
    if (levels.shape.size() != 1 || levels.shape[0] < 1 || levels.shape[0] > 256) {
      throw Error("input 'levels' has shape " + text(levels.shape) + ", expected [levels], 1 to 256 of them");
    }
    spec.levels = static_cast<const std::uint8_t*>(levels.data);
    spec.num_levels = static_cast<std::int32_t>(levels.shape[0]);
    if (const char* wrong = cpu::attention_create(spec, &attention_)) throw Error(wrong);
  }
  ~AttentionKernel() override { cpu::attention_destroy(attention_); }

  void run(Call& call) const override {
    const Tensor qkv = call.input(kQkv);
    if (qkv.shape.size() != 3 || qkv.shape[2] == 0 || qkv.shape[2] % (3 * heads_) != 0) {
      throw Error("input 'QKV' has shape " + text(qkv.shape) + ", expected [batch, tokens, 3 * " + std::to_string(heads_) +
                  " heads * head_dim]");
    }
    cpu::AttentionCall problem;
    problem.batch = qkv.shape[0];
    problem.tokens = qkv.shape[1];
    problem.head_dim = qkv.shape[2] / (3 * heads_);
    if (bias_) take_bias(call.input(kBiasInput), problem);
    problem.qkv = qkv.floats();
    problem.y = call.output({problem.batch, problem.tokens, heads_ * problem.head_dim});
    if (problem.batch == 0 || problem.tokens == 0) return;
    const cpu::Parallel parallel = call.parallel();
    const Scratch scratch(
        call, cpu::attention_scratch_bytes(attention_, problem.batch, problem.tokens, problem.head_dim, parallel.threads));
    if (const char* wrong = cpu::attention_run(attention_, problem, scratch.data(), parallel)) throw Error(wrong);
  }

 private:
  void take_bias(const Tensor& bias, cpu::AttentionCall& problem) const {
    const Shape& shape = bias.shape;
    const bool fits = shape.size() == 4 && shape[0] > 0 && (shape[1] == heads_ || shape[1] == 1) &&
                      shape[2] == problem.tokens && shape[3] == problem.tokens;
    if (!fits) {
      const std::string tokens = std::to_string(problem.tokens);
      throw Error("input 'bias' has shape " + text(shape) + ", expected [windows, " + std::to_string(heads_) + " or 1, " + tokens +
                  ", " + tokens + "]");
    }
    if (problem.batch % shape[0] != 0) {
      throw Error("input 'bias' has " + std::to_string(shape[0]) + " windows, which do not divide the batch of " +
                  std::to_string(problem.batch));
    }
    problem.bias = bias.floats();
    problem.bias_batch = shape[0];
    problem.bias_heads = shape[1];
  }

  bool bias_;
  std::int64_t heads_ = 0;
  cpu::Attention* attention_ = nullptr;
};

std::unique_ptr<Kernel> create(const KernelInfo& info, const Definition& self) {
  return std::make_unique<AttentionKernel>(info, self.parts);
}

void infer(const OrtShapeInferContext* context, const Definition&) {
  SymbolicShape shape = input_shape(context, kQkv);
  if (shape.size() != 3 || shape[2].value < 0) return;
  shape[2].value /= 3;
  set_output_shape(context, shape);
}

Definition attention(const char* name, unsigned parts) {
  Definition definition;
  definition.name = name;
  definition.inputs.assign(parts & kBias ? kBiasInput + 1 : kBiasInput, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  definition.inputs[kLevels] = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  definition.create = create;
  definition.infer = infer;
  definition.parts = parts;
  return definition;
}

}  // namespace

std::vector<Definition> attention_operators() { return {attention("GroupAttention", 0), attention("GroupAttentionBias", kBias)}; }

}  // namespace ort
}  // namespace qcompiler
