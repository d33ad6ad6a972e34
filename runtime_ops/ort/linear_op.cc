// GroupLinear, GroupLinearGelu, GroupLinearAdd, LayerNormGroupLinear, LayerNormGroupLinearGelu, and the same of
// BlockLinear, whose input is quantized in blocks of each token.
#include <cmath>

#include "cpu/kernels.h"
#include "ort/block_attributes.h"
#include "ort/custom_op.h"
#include "ort/device.h"
#include "ort/group_table.h"

namespace qcompiler {
namespace ort {
namespace {

enum Part : unsigned { kNorm = 1, kGelu = 2, kResidual = 4, kBlocks = 8 };

// Positions of the inputs; gamma and beta, where they are, stand between X and W. Blocks have no table of groups.
struct Inputs {
  explicit Inputs(unsigned parts) : weight(parts & kNorm ? 3 : 1), bias(weight + (parts & kBlocks ? 3 : 4)) {}

  std::size_t x = 0, gamma = 1, beta = 2;
  std::size_t weight;
  std::size_t w_scale = weight + 1, w_blocks = weight + 2, groups = weight + 3;
  std::size_t bias;
  std::size_t residual = bias + 1;
};

cpu::Grouping grouping(const KernelInfo& info) {
  const std::int64_t axis = info.integer("axis");
  const std::int64_t segments = info.integer("segments", 0);
  if (axis != -1 && axis != -2) throw Error("attribute 'axis' is " + std::to_string(axis) + ", expected -1 (channels) or -2 (rows)");
  if (segments != 0 && segments != 1) throw Error("attribute 'segments' is " + std::to_string(segments) + ", expected 0 or 1");
  if (axis == -2 && segments) throw Error("segments=1 needs axis=-1: rows have one scale each");
  return axis == -2 ? cpu::Grouping::kRows : segments ? cpu::Grouping::kSegments : cpu::Grouping::kChannels;
}

TableUse table_use(cpu::Grouping grouping) {
  switch (grouping) {
    case cpu::Grouping::kRows:
      return TableUse::kRows;
    case cpu::Grouping::kSegments:
      return TableUse::kSegments;
    default:
      return TableUse::kMultiples;
  }
}

cpu::Gelu gelu(const KernelInfo& info) {
  const std::string approximate = info.string("approximate", "none");
  if (approximate == "none") return cpu::Gelu::kErf;
  if (approximate == "tanh") return cpu::Gelu::kTanh;
  throw Error("attribute 'approximate' is '" + approximate + "', expected 'none' or 'tanh'");
}

// T: float or cpu::Half, the type of the activations.
template <typename T>
class LinearKernel final : public Kernel {
 public:
  LinearKernel(const KernelInfo& info, unsigned parts, const Device& device)
      : inputs_(parts), residual_(parts & kResidual) {
    const Tensor weight = info.constant(inputs_.weight, "W");
    if (weight.shape.size() != 2 || weight.count() == 0) {
      throw Error("input 'W' has shape " + text(weight.shape) + ", expected [channels, outputs], both positive");
    }
    channels_ = weight.shape[0];
    outputs_ = weight.shape[1];
    cpu::LinearSpec spec;
    spec.channels = channels_;
    spec.outputs = outputs_;
    spec.weight = weight.data;
    spec.weight_type = weight.type == kInt4 ? cpu::WeightType::kInt4 : cpu::WeightType::kInt8;
    take_weight_blocks(info, spec);
    spec.w_scale = info.vector(inputs_.w_scale, "w_scale", outputs_).floats();
    spec.bias = info.vector(inputs_.bias, "bias", outputs_).floats();
    if (parts & kBlocks) {
      take_blocks(info, spec);
    } else {
      take_groups(info, spec);
    }
    if (parts & kGelu) spec.gelu = gelu(info);
    if (parts & kNorm) {
      spec.gamma = info.vector(inputs_.gamma, "gamma", channels_).floats();
      spec.beta = info.vector(inputs_.beta, "beta", channels_).floats();
      spec.epsilon = info.number("epsilon", 1e-5f);
      if (!(spec.epsilon >= 0) || !std::isfinite(spec.epsilon)) {
        throw Error("attribute 'epsilon' is " + text(spec.epsilon) + ", expected a number from 0");
      }
    }
    linear_ = device.linear(spec);
  }

  void run(Call& call) const override {
    const Tensor x = call.input(inputs_.x);
    const std::size_t rank = x.shape.size();
    if (rank < 2) throw Error("input 'X' has shape " + text(x.shape) + ", expected [..., tokens, channels]");
    if (x.shape.back() != channels_) {
      throw Error("input 'X' has shape " + text(x.shape) + ", but W takes " + std::to_string(channels_) + " channels");
    }
    Shape shape = x.shape;
    shape.back() = outputs_;
    cpu::LinearCallOf<T> problem;
    if (residual_) {
      const Tensor residual = call.input(inputs_.residual);
      if (residual.shape != shape) {
        throw Error("input 'residual' has shape " + text(residual.shape) + ", expected the output's " + text(shape));
      }
      problem.residual = residual.values<T>();
    }
    problem.x = x.values<T>();
    problem.y = call.output<T>(shape);
    problem.rows = x.shape[rank - 2];
    for (std::size_t i = 0; i + 2 < rank; ++i) problem.batch *= x.shape[i];
    if (problem.batch == 0 || problem.rows == 0) return;
    linear_->run(problem, call);
  }

 private:
  void take_groups(const KernelInfo& info, cpu::LinearSpec& spec) const {
    spec.bits = bits_attribute(info);
    spec.grouping = grouping(info);
    const std::int64_t normalize = info.integer("normalize", 0);
    if (normalize != 0 && normalize != 1) {
      throw Error("attribute 'normalize' is " + std::to_string(normalize) + ", expected 0 or 1");
    }
    spec.normalize = normalize == 1;
    spec.groups = group_table(info, inputs_.groups, "groups", table_use(spec.grouping), spec.bits);
  }

  void take_blocks(const KernelInfo& info, cpu::LinearSpec& spec) const {
    spec.grouping = cpu::Grouping::kBlocks;
    const cpu::BlockSpec blocks = block_attributes(info, "bits");
    spec.bits = blocks.bits;
    spec.block = blocks.block;
    spec.clip = blocks.clip;
    spec.slack = blocks.slack;
    if (spec.block < 1 || channels_ % spec.block != 0) {
      throw Error("attribute 'block' is " + std::to_string(spec.block) + ", expected a divisor of the " +
                  std::to_string(channels_) + " channels");
    }
    spec.rotate = info.integer("rotate");
    const bool is_power = spec.rotate >= 1 && spec.rotate <= 128 && (spec.rotate & (spec.rotate - 1)) == 0;
    if (!is_power || channels_ % spec.rotate != 0) {
      throw Error("attribute 'rotate' is " + std::to_string(spec.rotate) +
                  ", expected a power of two up to 128 that divides the " + std::to_string(channels_) + " channels");
    }
  }

  void take_weight_blocks(const KernelInfo& info, cpu::LinearSpec& spec) const {
    const Tensor blocks = info.constant(inputs_.w_blocks, "w_blocks");
    const bool fits = blocks.shape.size() == 2 && blocks.shape[0] > 0 && channels_ % blocks.shape[0] == 0 &&
                      blocks.shape[1] == outputs_;
    if (!fits) {
      throw Error("input 'w_blocks' has shape " + text(blocks.shape) + ", expected [blocks, " + std::to_string(outputs_) +
                  "] with a number of blocks that divides the " + std::to_string(channels_) + " channels");
    }
    spec.w_blocks = static_cast<const std::uint8_t*>(blocks.data);
    spec.weight_blocks = blocks.shape[0];
  }

  Inputs inputs_;
  bool residual_;
  std::int64_t channels_ = 0, outputs_ = 0;
  std::unique_ptr<DeviceLinear> linear_;
};

std::unique_ptr<Kernel> create(const KernelInfo& info, const Definition& self) {
  if (self.activations == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) {
    return std::make_unique<LinearKernel<cpu::Half>>(info, self.parts, *self.device);
  }
  return std::make_unique<LinearKernel<float>>(info, self.parts, *self.device);
}

void infer(const OrtShapeInferContext* context, const Definition& self) {
  SymbolicShape shape = input_shape(context, 0);
  const SymbolicShape weight = input_shape(context, Inputs(self.parts).weight);
  if (shape.size() < 2 || weight.size() != 2) return;
  shape.back() = weight[1];
  set_output_shape(context, shape);
}

Definition linear(const char* name, unsigned parts, ONNXTensorElementDataType activations,
                  ONNXTensorElementDataType weight_type) {
  const Inputs inputs(parts);
  const std::size_t count = parts & kResidual ? inputs.residual + 1 : inputs.residual;
  Definition definition;
  definition.name = name;
  definition.activations = activations;
  definition.inputs.assign(count, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  definition.inputs[inputs.weight] = weight_type;
  definition.inputs[inputs.w_blocks] = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  definition.tensors = {inputs.x};
  if (parts & kResidual) definition.tensors.push_back(inputs.residual);
  for (const std::size_t index : definition.tensors) definition.inputs[index] = activations;
  definition.create = create;
  definition.infer = infer;
  definition.parts = parts;
  return definition;
}

}  // namespace

std::vector<Definition> linear_operators() {
  std::vector<ONNXTensorElementDataType> weight_types{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8};
  if (runtime_minor() >= kFirstMinorWithInt4) weight_types.push_back(kInt4);
  std::vector<Definition> all;
  for (const ONNXTensorElementDataType activations : kActivationTypes) {
    for (const ONNXTensorElementDataType type : weight_types) {
      all.push_back(linear("GroupLinear", 0, activations, type));
      all.push_back(linear("GroupLinearGelu", kGelu, activations, type));
      all.push_back(linear("GroupLinearAdd", kResidual, activations, type));
      all.push_back(linear("LayerNormGroupLinear", kNorm, activations, type));
      all.push_back(linear("LayerNormGroupLinearGelu", kNorm | kGelu, activations, type));
      all.push_back(linear("BlockLinear", kBlocks, activations, type));
      all.push_back(linear("BlockLinearGelu", kBlocks | kGelu, activations, type));
      all.push_back(linear("BlockLinearAdd", kBlocks | kResidual, activations, type));
      all.push_back(linear("LayerNormBlockLinear", kBlocks | kNorm, activations, type));
      all.push_back(linear("LayerNormBlockLinearGelu", kBlocks | kNorm | kGelu, activations, type));
    }
  }
  return all;
}

}  // namespace ort
}  // namespace qcompiler
