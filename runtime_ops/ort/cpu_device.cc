#include "ort/device.h"

namespace qcompiler {
namespace ort {
namespace {

class CpuLinear final : public DeviceLinear {
 public:
  explicit CpuLinear(const cpu::LinearSpec& spec) {
    if (const char* wrong = cpu::linear_create(spec, &linear_)) throw Error(wrong);
  }
  ~CpuLinear() override { cpu::linear_destroy(linear_); }

  void run(const cpu::LinearCall& problem, Call& call) const override {
    const cpu::Parallel parallel = call.parallel();
    const Scratch scratch(call, cpu::linear_scratch_bytes(linear_, problem.batch, problem.rows, parallel.threads));
    if (const char* wrong = cpu::linear_run(linear_, problem, scratch.data(), parallel)) throw Error(wrong);
  }
  void run(const cpu::HalfLinearCall& problem, Call& call) const override {
    const cpu::Parallel parallel = call.parallel();
    const Scratch scratch(call, cpu::linear_half_scratch_bytes(linear_, problem, parallel.threads));
    if (const char* wrong = cpu::linear_run_half(linear_, problem, scratch.data(), parallel)) throw Error(wrong);
  }

 private:
  cpu::Linear* linear_ = nullptr;
};

class CpuAttention final : public DeviceAttention {
 public:
  explicit CpuAttention(const cpu::AttentionSpec& spec) {
    if (const char* wrong = cpu::attention_create(spec, &attention_)) throw Error(wrong);
  }
  ~CpuAttention() override { cpu::attention_destroy(attention_); }

  void run(const cpu::AttentionCall& problem, Call& call) const override {
    const cpu::Parallel parallel = call.parallel();
    const Scratch scratch(
        call, cpu::attention_scratch_bytes(attention_, problem.batch, problem.tokens, problem.head_dim, parallel.threads));
    if (const char* wrong = cpu::attention_run(attention_, problem, scratch.data(), parallel)) throw Error(wrong);
  }
  void run(const cpu::HalfAttentionCall& problem, Call& call) const override {
    const cpu::Parallel parallel = call.parallel();
    const Scratch scratch(call, cpu::attention_half_scratch_bytes(attention_, problem, parallel.threads));
    if (const char* wrong = cpu::attention_run_half(attention_, problem, scratch.data(), parallel)) throw Error(wrong);
  }

 private:
  cpu::Attention* attention_ = nullptr;
};

}  // namespace

const Device& cpu_device() {
  static const Device device = {
      "CPUExecutionProvider",
      OrtMemTypeDefault,
      [](const cpu::LinearSpec& spec) -> std::unique_ptr<DeviceLinear> { return std::make_unique<CpuLinear>(spec); },
      [](const cpu::AttentionSpec& spec) -> std::unique_ptr<DeviceAttention> {
        return std::make_unique<CpuAttention>(spec);
      },
  };
  return device;
}

}  // namespace ort
}  // namespace qcompiler
