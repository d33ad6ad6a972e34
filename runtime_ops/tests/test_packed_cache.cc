// Packed weights: equal blocks are one, different ones are not, the last reader frees them, from any thread.
#include <cstring>
#include <memory>
#include <thread>

#include "../cpu/linear.h"
#include "../cpu/packed_cache.h"
#include "check.h"
#include "test_samples.h"

using namespace qcompiler::cpu;

namespace {

PackedWeights filled(std::size_t size, std::uint64_t seed, std::size_t changed, int change) {
  PackedBuilder builder(size);
  Random random(seed);
  for (std::size_t i = 0; i < size; ++i) builder.data()[i] = static_cast<std::int8_t>(random.integer(-128, 127));
  if (changed < size) builder.data()[changed] = static_cast<std::int8_t>(builder.data()[changed] ^ change);
  return builder.share();
}

// A block of pages of its own, and those next to it in size.
void check_large_blocks() {
  const PackedTotals before = packed_totals();
  for (const std::size_t size : {std::size_t{262143}, std::size_t{262144}, std::size_t{262145}}) {
    PackedBuilder fresh(size);
    bool zeros = true;
    for (std::size_t i = 0; i < size; ++i) zeros = zeros && fresh.data()[i] == 0;
    CHECK(zeros, "%zu bytes: not zero", size);
    const PackedWeights first = filled(size, 5, size, 0), second = filled(size, 5, size, 0);
    const PackedWeights other = filled(size, 5, size - 1, 64);
    CHECK(first.data() == second.data() && first.data() != other.data(), "%zu bytes", size);
    CHECK(reinterpret_cast<std::uintptr_t>(other.data()) % kScratchAlignment == 0, "%zu bytes: alignment", size);
    CHECK(packed_totals().bytes == before.bytes + 2 * size, "%zu bytes: totals", size);
  }
  CHECK(packed_totals().bytes == before.bytes, "all are freed");
}

void check_blocks() {
  const PackedTotals before = packed_totals();
  {
    const PackedWeights first = filled(1000, 1, 1000, 0), second = filled(1000, 1, 1000, 0);
    CHECK(first.data() == second.data() && first.size() == 1000, "equal blocks are one");
    CHECK(reinterpret_cast<std::uintptr_t>(first.data()) % kScratchAlignment == 0, "alignment");
    CHECK(packed_totals().blocks == before.blocks + 1 && packed_totals().bytes == before.bytes + 1000, "%zu blocks",
          packed_totals().blocks);
    // Every place in a line, the partial last one too: whatever the hash reads, one byte is enough to tell them apart.
    for (std::size_t place = 0; place < 1000; place += 37) {
      const PackedWeights other = filled(1000, 1, place, 1);
      CHECK(other.data() != first.data() && other.data()[place] == (first.data()[place] ^ 1), "byte %zu", place);
    }
    CHECK(packed_totals().blocks == before.blocks + 1, "the others are gone");
    const PackedWeights shorter = filled(999, 1, 999, 0);
    CHECK(shorter.data() != first.data(), "a block that is the beginning of another");
    PackedBuilder empty(0);
    CHECK(empty.share().size() == 0, "an empty block");
  }
  CHECK(packed_totals().blocks == before.blocks && packed_totals().bytes == before.bytes, "all are freed: %zu blocks",
        packed_totals().blocks);
}

// Operators that are created from equal constants, at different addresses.
void check_operators(const char* path) {
  for (const Grouping grouping : {Grouping::kRows, Grouping::kChannels, Grouping::kSegments, Grouping::kBlocks}) {
    const PackedTotals before = packed_totals();
    Choice choice;
    choice.grouping = grouping;
    auto one = std::make_unique<LinearOwner>(LinearSample(choice));
    {
      const LinearOwner two((LinearSample(choice)));
      CHECK(one->get() != nullptr && two.get() != nullptr, "%s", path);
      if (one->get() == nullptr || two.get() == nullptr) return;
      CHECK(one->get()->weight.data() == two.get()->weight.data(), "%s, grouping %d: packed twice", path,
            static_cast<int>(grouping));
      one.reset();
      CHECK(packed_totals().blocks == before.blocks + 1, "%s: the second still reads it", path);
      choice.seed = 2;
      const LinearOwner other((LinearSample(choice)));
      CHECK(other.get()->weight.data() != two.get()->weight.data(), "%s: other weights", path);
    }
    CHECK(packed_totals().blocks == before.blocks, "%s, grouping %d: not freed", path, static_cast<int>(grouping));
  }
}

// What is packed differently is not shared, though the weights are the same.
void check_formats() {
  Choice choice;
  choice.channels = choice.outputs = 64;
  const LinearSample sample(choice);
  CHECK(select_path("reference") == nullptr, "reference");
  const LinearOwner plain(sample);
  choice.grouping = Grouping::kSegments;
  for (int i = 1; i < path_count(); ++i) {
    if (!path_info(i).detected) continue;
    const char* const name = path_info(i).name;
    CHECK(select_path(name) == nullptr, "%s", name);
    const LinearOwner panels(sample), stripes((LinearSample(choice)));
    if (panels.get() == nullptr || stripes.get() == nullptr) continue;
    CHECK(panels.get()->weight.data() != plain.get()->weight.data(), "%s and the reference", name);
    CHECK(panels.get()->weight.data() != stripes.get()->weight.data(), "%s: panels and stripes", name);
  }
  select_path(nullptr);
}

void check_concurrent() {
  constexpr int kThreads = 4, kLayers = 3, kRounds = 20;
  const PackedTotals before = packed_totals();
  std::vector<std::unique_ptr<LinearSample>> samples;
  for (int i = 0; i < kLayers; ++i) {
    Choice choice;
    choice.seed = static_cast<std::uint64_t>(i + 1);
    samples.push_back(std::make_unique<LinearSample>(choice));
  }
  {
    std::vector<std::unique_ptr<LinearOwner>> made[kThreads];
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&samples, t, &mine = made[t]] {
        for (int round = 0; round < kRounds; ++round) {
          mine.clear();
          // Every thread starts with another layer.
          for (int i = 0; i < kLayers; ++i) {
            const std::size_t layer = static_cast<std::size_t>((i + t + round) % kLayers);
            mine.push_back(std::make_unique<LinearOwner>(*samples[layer]));
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (int t = 0; t < kThreads; ++t) {
      for (int i = 0; i < kLayers; ++i) {
        const int layer = (i + t + kRounds - 1) % kLayers;
        const int first = (layer + 2 * kLayers - (kRounds - 1) % kLayers) % kLayers;
        const LinearOwner& mine = *made[t][static_cast<std::size_t>(i)];
        const LinearOwner& theirs = *made[0][static_cast<std::size_t>(first)];
        CHECK(mine.get() != nullptr && mine.get()->weight.data() == theirs.get()->weight.data(), "thread %d, layer %d",
              t, layer);
      }
    }
    CHECK(packed_totals().blocks == before.blocks + kLayers, "%zu blocks", packed_totals().blocks - before.blocks);
  }
  CHECK(packed_totals().blocks == before.blocks, "not freed");
}

}  // namespace

void test_packed_cache() {
  check_blocks();
  check_large_blocks();
  for (int i = 0; i < path_count(); ++i) {
    if (!path_info(i).detected) continue;
    CHECK(select_path(path_info(i).name) == nullptr, "%s", path_info(i).name);
    check_operators(path_info(i).name);
  }
  select_path(nullptr);
  check_formats();
  check_concurrent();
}
