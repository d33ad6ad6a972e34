// Real threads: inside one call, several callers of one operator, and whole lives of operators side by side. Results
// must be the same bytes as those of one thread and of single instances. Meant for the thread sanitizer as well.
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "check.h"
#include "test_samples.h"

using namespace qcompiler::cpu;

namespace {

// One thread per call of fn.
void spawn(void*, std::size_t count, void (*fn)(void*, std::size_t), void* arg) {
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < count; ++i) threads.emplace_back(fn, arg, i);
  fn(arg, 0);
  for (std::thread& thread : threads) thread.join();
}

Parallel real(int count) {
  Parallel parallel;
  parallel.parallel_for = spawn;
  parallel.threads = count;
  return parallel;
}

struct Shape {
  std::int64_t batch, rows;
};

// A problem with its input; `run` may be called by several threads.
class Problem {
 public:
  virtual ~Problem() = default;
  // The output of `batch` instances from instance `first` on; empty on failure.
  virtual std::vector<float> run(std::int64_t first, std::int64_t batch, const Parallel& parallel) const = 0;
  // The same from an operator of its own.
  virtual std::vector<float> live(const Parallel& parallel) const = 0;
  virtual std::string text() const = 0;
  virtual std::int64_t batch() const = 0;
};

class LinearProblem final : public Problem {
 public:
  LinearProblem(const Choice& choice, const Shape& shape, bool residual)
      : sample_(choice),
        owner_(sample_),
        shape_(shape),
        x_(sample_values(shape.batch * shape.rows, choice.channels, 3)) {
    if (residual) residual_ = sample_values(shape.batch * shape.rows, choice.outputs, 4);
  }

  std::vector<float> run(std::int64_t first, std::int64_t batch, const Parallel& parallel) const override {
    return run(owner_, first, batch, parallel);
  }
  std::vector<float> live(const Parallel& parallel) const override {
    return run(LinearOwner(sample_), 0, shape_.batch, parallel);
  }
  std::string text() const override { return sample_.text() + ", rows " + std::to_string(shape_.rows); }
  std::int64_t batch() const override { return shape_.batch; }

 private:
  std::vector<float> run(const LinearOwner& owner, std::int64_t first, std::int64_t batch,
                         const Parallel& parallel) const {
    const LinearSpec& spec = sample_.spec();
    std::vector<float> y(static_cast<std::size_t>(batch * shape_.rows * spec.outputs), -1.0f);
    if (owner.get() == nullptr) return {};
    LinearCall call;
    call.x = x_.data() + first * shape_.rows * spec.channels;
    call.residual = residual_.empty() ? nullptr : residual_.data() + first * shape_.rows * spec.outputs;
    call.y = y.data();
    call.batch = batch;
    call.rows = shape_.rows;
    const Aligned scratch(linear_scratch_bytes(owner.get(), batch, shape_.rows, parallel.threads));
    return linear_run(owner.get(), call, scratch.get(), parallel) == nullptr ? y : std::vector<float>();
  }

  LinearSample sample_;
  LinearOwner owner_;
  Shape shape_;
  std::vector<float> x_, residual_;
};

class AttentionProblem final : public Problem {
 public:
  AttentionProblem(int heads, int head_dim, bool in_blocks, const Shape& shape)
      : sample_(heads, in_blocks),
        owner_(sample_),
        shape_(shape),
        width_(heads * head_dim),
        head_dim_(head_dim),
        qkv_(sample_values(shape.batch * shape.rows, 3 * width_, 5)),
        bias_(sample_values(heads * shape.rows, shape.rows, 6)) {}

  std::vector<float> run(std::int64_t first, std::int64_t batch, const Parallel& parallel) const override {
    return run(owner_, first, batch, parallel);
  }
  std::vector<float> live(const Parallel& parallel) const override {
    return run(AttentionOwner(sample_), 0, shape_.batch, parallel);
  }
  std::string text() const override {
    return "attention, blocks " + std::to_string(sample_.spec().in_blocks) + ", tokens " + std::to_string(shape_.rows);
  }
  std::int64_t batch() const override { return shape_.batch; }

 private:
  std::vector<float> run(const AttentionOwner& owner, std::int64_t first, std::int64_t batch,
                         const Parallel& parallel) const {
    std::vector<float> y(static_cast<std::size_t>(batch * shape_.rows * width_), -1.0f);
    if (owner.get() == nullptr) return {};
    AttentionCall call;
    call.qkv = qkv_.data() + first * shape_.rows * 3 * width_;
    call.bias = bias_.data();
    call.bias_batch = 1;
    call.bias_heads = sample_.spec().num_heads;
    call.y = y.data();
    call.batch = batch;
    call.tokens = shape_.rows;
    call.head_dim = head_dim_;
    const Aligned scratch(attention_scratch_bytes(owner.get(), batch, shape_.rows, head_dim_, parallel.threads));
    return attention_run(owner.get(), call, scratch.get(), parallel) == nullptr ? y : std::vector<float>();
  }

  AttentionSample sample_;
  AttentionOwner owner_;
  Shape shape_;
  std::int64_t width_, head_dim_;
  std::vector<float> qkv_, bias_;
};

using Problems = std::vector<std::unique_ptr<Problem>>;

Problems problems(bool quick) {
  Problems all;
  const Shape shape = {3, quick ? 9 : 70};
  for (const Grouping grouping : {Grouping::kRows, Grouping::kChannels, Grouping::kSegments, Grouping::kBlocks}) {
    Choice choice;
    choice.grouping = grouping;
    choice.outputs = 100;
    all.push_back(std::make_unique<LinearProblem>(choice, shape, true));
    choice.norm = true;
    choice.w_blocks = true;
    choice.gelu = Gelu::kErf;
    choice.normalize = grouping != Grouping::kBlocks;
    choice.rotate = grouping == Grouping::kBlocks ? 16 : 1;
    all.push_back(std::make_unique<LinearProblem>(choice, shape, false));
    // Fewer rows, channels and columns than threads.
    choice = Choice();
    choice.grouping = grouping;
    choice.channels = choice.outputs = 1;
    all.push_back(std::make_unique<LinearProblem>(choice, Shape{2, 1}, false));
  }
  for (const bool in_blocks : {false, true}) {
    all.push_back(std::make_unique<AttentionProblem>(3, 24, in_blocks, shape));
    all.push_back(std::make_unique<AttentionProblem>(1, 8, in_blocks, Shape{1, 1}));
  }
  return all;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return !a.empty() && a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_thread_counts(const char* path, const Problem& problem, const std::vector<float>& expected) {
  for (const int count : {1, 2, 3, 5}) {
    CHECK(same(problem.run(0, problem.batch(), real(count)), expected), "%s: %s: %d threads", path,
          problem.text().c_str(), count);
  }
  const std::size_t each = expected.size() / static_cast<std::size_t>(problem.batch());
  for (std::int64_t b = 0; b < problem.batch(); ++b) {
    const std::size_t from = each * static_cast<std::size_t>(b);
    const std::vector<float> part(&expected[from], &expected[from] + each);
    CHECK(same(problem.run(b, 1, real(b == 0 ? 1 : 2)), part), "%s: %s: instance %d alone", path,
          problem.text().c_str(), static_cast<int>(b));
  }
}

// Two callers with operators of their own, made and destroyed under way, and two that share the first ones.
void check_side_by_side(const char* path, const Problems& all, const std::vector<std::vector<float>>& expected) {
  constexpr int kCallers = 4;
  int wrong[kCallers] = {};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&all, &expected, caller, &count = wrong[caller]] {
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::size_t at = (i + static_cast<std::size_t>(caller / 2)) % all.size();
        const Parallel parallel = real(1 + caller % 2);
        const std::vector<float> y = caller < 2 ? all[at]->live(parallel) : all[at]->run(0, all[at]->batch(), parallel);
        count += same(y, expected[at]) ? 0 : 1;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (int caller = 0; caller < kCallers; ++caller) {
    CHECK(wrong[caller] == 0, "%s: caller %d: %d wrong", path, caller, wrong[caller]);
  }
}

// Failures at the same time: everyone reads a message of its own.
void check_messages() {
  bool right[2] = {true, true};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([t, &mine = right[t]] {
      Choice choice;
      choice.bits = 9 + t;
      const LinearSample sample(choice);
      for (int i = 0; i < 50; ++i) {
        const LinearOwner owner(sample);
        mine = mine && owner.failure() != nullptr &&
               std::strstr(owner.failure(), std::to_string(choice.bits).c_str()) != nullptr;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right[0] && right[1], "messages of two threads");
}

}  // namespace

void test_threads(bool quick) {
  for (int i = 0; i < path_count(); ++i) {
    if (!path_info(i).detected) continue;
    const char* const path = path_info(i).name;
    CHECK(select_path(path) == nullptr, "%s", path);
    const Problems all = problems(quick || i == 0);
    std::vector<std::vector<float>> expected;
    for (const auto& problem : all) {
      expected.push_back(problem->run(0, problem->batch(), Parallel()));
      CHECK(!expected.back().empty(), "%s: %s", path, problem->text().c_str());
      if (!expected.back().empty()) check_thread_counts(path, *problem, expected.back());
    }
    check_side_by_side(path, all, expected);
  }
  select_path(nullptr);
  check_messages();
}
