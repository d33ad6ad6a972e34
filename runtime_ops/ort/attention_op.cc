// GroupAttention, GroupAttentionBias, and the same of BlockAttention, whose q, k and v are quantized in blocks of each
// token.
#include <cmath>

#include "cpu/kernels.h"
#include "ort/block_attributes.h"
#include "ort/custom_op.h"
#include "ort/device.h"
#include "ort/group_table.h"

namespace qcompiler {
namespace ort {
namespace {

enum Part : unsigned { kBias = 1, kBlocks = 2 };

constexpr std::int64_t kMostHeads = 65536;  // products with it stay within 64 bits

// Positions of the inputs. Blocks have no tables of groups for q, k and v.
struct Inputs {
  explicit Inputs(unsigned parts) : p_groups(parts & kBlocks ? 1 : 4) {}

  std::size_t qkv = 0;
  std::size_t q_groups = 1, k_groups = 2, v_groups = 3;
  std::size_t p_groups;
  std::size_t levels = p_groups + 1, bias = p_groups + 2;
};

// T: float or cpu::Half, the type of the activations.
template <typename T>
class AttentionKernel final : public Kernel {
 public:
  AttentionKernel(const KernelInfo& info, unsigned parts, const Device& device)
      : inputs_(parts), bias_(parts & kBias) {
    cpu::AttentionSpec spec;
    spec.num_heads = heads_ = info.integer("num_heads");
    if (heads_ < 1 || heads_ > kMostHeads) {
      throw Error("attribute 'num_heads' is " + std::to_string(heads_) + ", expected a number from 1 to " +
                  std::to_string(kMostHeads));
    }
    spec.scale = info.number("scale");
    if (!std::isfinite(spec.scale)) throw Error("attribute 'scale' is " + text(spec.scale) + ", expected a finite number");
    if (parts & kBlocks) {
      take_blocks(info, spec);
    } else {
      take_groups(info, spec);
    }
    spec.p = group_table(info, inputs_.p_groups, "p_groups", TableUse::kProbabilities, spec.bits);
    const Tensor levels = info.constant(inputs_.levels, "levels");
    if (levels.shape.size() != 1 || levels.shape[0] < 1 || levels.shape[0] > 256) {
      throw Error("input 'levels' has shape " + text(levels.shape) + ", expected [levels], 1 to 256 of them");
    }
    spec.levels = static_cast<const std::uint8_t*>(levels.data);
    spec.num_levels = static_cast<std::int32_t>(levels.shape[0]);
    attention_ = device.attention(spec);
  }

  void run(Call& call) const override {
    const Tensor qkv = call.input(inputs_.qkv);
    if (qkv.shape.size() != 3 || qkv.shape[2] == 0 || qkv.shape[2] % (3 * heads_) != 0) {
      throw Error("input 'QKV' has shape " + text(qkv.shape) + ", expected [batch, tokens, 3 * " + std::to_string(heads_) +
                  " heads * head_dim]");
    }
    cpu::AttentionCallOf<T> problem;
    problem.batch = qkv.shape[0];
    problem.tokens = qkv.shape[1];
    problem.head_dim = qkv.shape[2] / (3 * heads_);
    if (block_ > 0 && problem.head_dim % block_ != 0) {
      throw Error("input 'QKV' has shape " + text(qkv.shape) + ", but attribute 'block' is " + std::to_string(block_) +
                  ", which does not divide the " + std::to_string(problem.head_dim) + " channels of a head");
    }
    if (bias_) take_bias(call.input(inputs_.bias), problem);
    problem.qkv = qkv.values<T>();
    problem.y = call.output<T>({problem.batch, problem.tokens, heads_ * problem.head_dim});
    if (problem.batch == 0 || problem.tokens == 0) return;
    attention_->run(problem, call);
  }

 private:
  void take_groups(const KernelInfo& info, cpu::AttentionSpec& spec) const {
    spec.bits = bits_attribute(info);
    spec.q = group_table(info, inputs_.q_groups, "q_groups", TableUse::kSignedBytes, spec.bits);
    spec.k = group_table(info, inputs_.k_groups, "k_groups", TableUse::kSignedBytes, spec.bits);
    spec.v = group_table(info, inputs_.v_groups, "v_groups", TableUse::kSignedBytes, spec.bits);
  }

  void take_blocks(const KernelInfo& info, cpu::AttentionSpec& spec) {
    spec.in_blocks = true;
    spec.qk_blocks = block_attributes(info, "qk_bits");
    spec.v_blocks = block_attributes(info, "v_bits");
    block_ = spec.qk_blocks.block;
    if (block_ < 1) throw Error("attribute 'block' is " + std::to_string(block_) + ", expected a positive number");
  }

  void take_bias(const Tensor& bias, cpu::AttentionCallOf<T>& problem) const {
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
    problem.bias = bias.values<T>();
    problem.bias_batch = shape[0];
    problem.bias_heads = shape[1];
  }

  Inputs inputs_;
  bool bias_;
  std::int64_t heads_ = 0;
  std::int64_t block_ = 0;  // channels of one block, where there are blocks
  std::unique_ptr<DeviceAttention> attention_;
};

std::unique_ptr<Kernel> create(const KernelInfo& info, const Definition& self) {
  if (self.activations == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) {
    return std::make_unique<AttentionKernel<cpu::Half>>(info, self.parts, *self.device);
  }
  return std::make_unique<AttentionKernel<float>>(info, self.parts, *self.device);
}

void infer(const OrtShapeInferContext* context, const Definition&) {
  SymbolicShape shape = input_shape(context, 0);
  if (shape.size() != 3 || shape[2].value < 0) return;
  shape[2].value /= 3;
  set_output_shape(context, shape);
}

Definition attention(const char* name, unsigned parts, ONNXTensorElementDataType activations) {
  const Inputs inputs(parts);
  Definition definition;
  definition.name = name;
  definition.activations = activations;
  definition.inputs.assign(parts & kBias ? inputs.bias + 1 : inputs.bias, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  definition.inputs[inputs.levels] = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  definition.tensors = {inputs.qkv};
  if (parts & kBias) definition.tensors.push_back(inputs.bias);
  for (const std::size_t index : definition.tensors) definition.inputs[index] = activations;
  definition.create = create;
  definition.infer = infer;
  definition.parts = parts;
  return definition;
}

}  // namespace

std::vector<Definition> attention_operators() {
  std::vector<Definition> all;
  for (const ONNXTensorElementDataType activations : kActivationTypes) {
    all.push_back(attention("GroupAttention", 0, activations));
    all.push_back(attention("GroupAttentionBias", kBias, activations));
    all.push_back(attention("BlockAttention", kBlocks, activations));
    all.push_back(attention("BlockAttentionBias", kBlocks | kBias, activations));
  }
  return all;
}

}  // namespace ort
}  // namespace qcompiler
