// Small operators with the data that they are created from, for tests that care about who owns and who shares.
#ifndef QCOMPILER_RUNTIME_TESTS_TEST_SAMPLES_H_
#define QCOMPILER_RUNTIME_TESTS_TEST_SAMPLES_H_

#include <string>
#include <vector>

#include "../cpu/kernels.h"

// What a sample's constants are made from; equal choices give equal bytes.
struct Choice {
  qcompiler::cpu::Grouping grouping = qcompiler::cpu::Grouping::kRows;
  int channels = 48, outputs = 37;
  int bits = 4;
  bool int4 = true;
  bool w_blocks = false;
  bool norm = false;
  bool normalize = false;
  int rotate = 1;
  qcompiler::cpu::Gelu gelu = qcompiler::cpu::Gelu::kNone;
  std::uint64_t seed = 1;
};

class LinearSample {
 public:
  explicit LinearSample(const Choice& choice);
  LinearSample(const LinearSample&) = delete;
  LinearSample& operator=(const LinearSample&) = delete;

  const qcompiler::cpu::LinearSpec& spec() const { return spec_; }
  std::string text() const;

 private:
  Choice choice_;
  qcompiler::cpu::LinearSpec spec_;
  std::vector<std::uint8_t> weight_, w_blocks_;
  std::vector<float> w_scale_, bias_, gamma_, beta_, groups_;
};

class AttentionSample {
 public:
  AttentionSample(int heads, bool in_blocks);
  AttentionSample(const AttentionSample&) = delete;
  AttentionSample& operator=(const AttentionSample&) = delete;

  const qcompiler::cpu::AttentionSpec& spec() const { return spec_; }

 private:
  qcompiler::cpu::AttentionSpec spec_;
  std::vector<float> bytes_, p_;
  std::vector<std::uint8_t> levels_;
};

// An operator that lives as long as this object; `failure` is nullptr where it was created. Any thread may make one.
class LinearOwner {
 public:
  explicit LinearOwner(const LinearSample& sample)
      : failure_(qcompiler::cpu::linear_create(sample.spec(), &linear_)) {}
  ~LinearOwner() { qcompiler::cpu::linear_destroy(linear_); }
  LinearOwner(const LinearOwner&) = delete;
  LinearOwner& operator=(const LinearOwner&) = delete;

  const qcompiler::cpu::Linear* get() const { return linear_; }
  qcompiler::cpu::Status failure() const { return failure_; }

 private:
  qcompiler::cpu::Linear* linear_ = nullptr;
  qcompiler::cpu::Status failure_;
};

class AttentionOwner {
 public:
  explicit AttentionOwner(const AttentionSample& sample)
      : failure_(qcompiler::cpu::attention_create(sample.spec(), &attention_)) {}
  ~AttentionOwner() { qcompiler::cpu::attention_destroy(attention_); }
  AttentionOwner(const AttentionOwner&) = delete;
  AttentionOwner& operator=(const AttentionOwner&) = delete;

  const qcompiler::cpu::Attention* get() const { return attention_; }
  qcompiler::cpu::Status failure() const { return failure_; }

 private:
  qcompiler::cpu::Attention* attention_ = nullptr;
  qcompiler::cpu::Status failure_;
};

// Normal values whose size differs from channel to channel and from token to token.
std::vector<float> sample_values(std::int64_t rows, std::int64_t channels, std::uint64_t seed);

// Values as a tensor of float or Half, rounded as the definition rounds them; and the values of a tensor.
template <typename T>
std::vector<T> as_tensor(const std::vector<float>& values);
std::vector<float> values_of(const std::vector<float>& tensor);
std::vector<float> values_of(const std::vector<qcompiler::cpu::Half>& tensor);

#endif  // QCOMPILER_RUNTIME_TESTS_TEST_SAMPLES_H_
