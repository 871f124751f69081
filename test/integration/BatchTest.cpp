//===- BatchTest.cpp - A batch gives what its sequences give alone ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// On a trained model: routing is uneven there, and experts see many tokens of some sequences and
// none of others, so a row that ended up in the wrong place would show. Reference is every sequence
// alone in an engine of its own, in one step per chunk of 64 tokens.
//
//===------------------------------------------------------------------------===//
#include "sluice/engine.h"
#include "sluice/generator.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <numeric>

namespace sluice {
namespace {

constexpr float kTolerance = 1e-4f;
constexpr int kSequences = 16;
constexpr int kDecoded = 12;

using Rows = std::vector<std::vector<float>>;

/// Ids that look like nothing in particular but are the same in every run.
std::vector<int32_t> someTokens(int count, uint32_t seed, int vocabulary) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  uint32_t state = seed * 2654435761u + 12345u;
  for (int32_t &token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = int32_t((state >> 8) % uint32_t(vocabulary));
  }
  return tokens;
}

std::unique_ptr<Engine> loadModel(const char *artifact) {
  auto engine = Engine::load(artifact, {.threads = 2});
  if (!engine.isOk()) {
    ADD_FAILURE() << engine.status().toString();
    return nullptr;
  }
  return std::move(*engine);
}

/// Over plans of the same model: one rank, and four of which each has sequences of its own.
class BatchTest : public testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
    engine = loadModel(GetParam());
    ASSERT_NE(engine, nullptr);
    ASSERT_GE(engine->info().maxSeqs, kSequences);
    vocabulary = size_t(engine->info().vocabSize);
  }

  /// The last row of logits of `prompt` and of each token of `continuation` appended to it.
  Rows alone(const std::vector<int32_t> &prompt, const std::vector<int32_t> &continuation) {
    Rows rows;
    auto sequence = engine->createSequence();
    EXPECT_TRUE(sequence.isOk());
    auto append = [&](std::span<const int32_t> tokens, bool keep) {
      StepEntry entry{
          .sequence = *sequence, .tokens = tokens, .logitRows = keep ? 1 : 0, .sampling = {}};
      StepOutput output;
      Status status = engine->step({&entry, 1}, {&output, 1});
      ASSERT_TRUE(status.isOk()) << status.toString();
      if (keep)
        rows.emplace_back(output.logits.begin(), output.logits.end());
    };
    std::span<const int32_t> rest(prompt);
    while (!rest.empty()) {
      size_t count = std::min<size_t>(rest.size(), 64);
      append(rest.first(count), count == rest.size());
      rest = rest.subspan(count);
    }
    for (const int32_t &token : continuation)
      append({&token, 1}, true);
    engine->releaseSequence(*sequence);
    return rows;
  }

  float largestDifference(std::span<const float> a, std::span<const float> b) {
    EXPECT_EQ(a.size(), vocabulary);
    EXPECT_EQ(b.size(), vocabulary);
    float largest = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      float difference = std::abs(a[i] - b[i]);
      largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
    }
    return largest;
  }

  std::unique_ptr<Engine> engine;
  size_t vocabulary = 0;
};

TEST_P(BatchTest, SixteenSequencesPrefilledInChunksAndDecodedTogether) {
  struct Live {
    std::vector<int32_t> prompt, continuation;
    Rows expected;
    SequenceId id = -1;
    size_t prefilled = 0, rows = 0;
  };
  std::vector<Live> live(kSequences);
  for (int i = 0; i < kSequences; ++i) {
    // 1 to 196 tokens: below, at and beyond pages, buckets and chunks.
    int length = 1 + i * 13;
    live[size_t(i)].prompt = someTokens(length, uint32_t(i) + 1, int(vocabulary));
    live[size_t(i)].continuation = someTokens(kDecoded, uint32_t(i) + 100, int(vocabulary));
    live[size_t(i)].expected = alone(live[size_t(i)].prompt, live[size_t(i)].continuation);
    ASSERT_EQ(live[size_t(i)].expected.size(), size_t(kDecoded) + 1);
  }
  for (Live &sequence : live) {
    auto created = engine->createSequence();
    ASSERT_TRUE(created.isOk()) << created.status().toString();
    sequence.id = *created;
  }

  // Chunks of 7 + 3 i tokens: sequences finish their prompts at different steps, so that from the
  // second step on every batch holds prefill and decode side by side.
  int mixedSteps = 0, steps = 0;
  float worst = 0;
  for (bool busy = true; busy; ++steps) {
    ASSERT_LT(steps, 200);
    std::vector<StepEntry> entries;
    std::vector<Live *> owners;
    bool prefills = false, decodes = false;
    for (size_t i = 0; i < live.size(); ++i) {
      Live &sequence = live[i];
      StepEntry entry{.sequence = sequence.id, .tokens = {}, .logitRows = 1, .sampling = {}};
      if (size_t left = sequence.prompt.size() - sequence.prefilled; left > 0) {
        size_t count = std::min(left, 7 + 3 * i % 20);
        entry.tokens = std::span(sequence.prompt).subspan(sequence.prefilled, count);
        entry.logitRows = count == left;
        sequence.prefilled += count;
        prefills = true;
      } else if (sequence.rows <= kDecoded) {
        entry.tokens = std::span(sequence.continuation).subspan(sequence.rows - 1, 1);
        decodes = true;
      } else {
        continue;
      }
      entries.push_back(entry);
      owners.push_back(&sequence);
    }
    busy = !entries.empty();
    if (!busy)
      break;
    mixedSteps += prefills && decodes;
    std::vector<StepOutput> outputs(entries.size());
    Status status = engine->step(entries, outputs);
    ASSERT_TRUE(status.isOk()) << status.toString();
    for (size_t i = 0; i < entries.size(); ++i)
      if (entries[i].logitRows) {
        Live &sequence = *owners[i];
        float difference = largestDifference(outputs[i].logits, sequence.expected[sequence.rows]);
        EXPECT_LE(difference, kTolerance)
            << "sequence of " << sequence.prompt.size() << " tokens, row " << sequence.rows;
        worst = std::max(worst, difference);
        ++sequence.rows;
      }
  }
  for (const Live &sequence : live)
    EXPECT_EQ(sequence.rows, size_t(kDecoded) + 1);
  EXPECT_GE(mixedSteps, 5);
  RecordProperty("largest_difference", std::to_string(worst));
}

TEST_P(BatchTest, EveryRowOfAPrefillIsItsRowAlone) {
  std::vector<int32_t> first = someTokens(20, 7, int(vocabulary));
  std::vector<int32_t> second = someTokens(33, 8, int(vocabulary));
  Rows firstRows = alone({first[0]}, {first.begin() + 1, first.end()});
  Rows secondRows = alone({second[0]}, {second.begin() + 1, second.end()});
  auto a = engine->createSequence(), b = engine->createSequence();
  ASSERT_TRUE(a.isOk() && b.isOk());
  std::vector<StepEntry> entries = {
      {.sequence = *b, .tokens = second, .logitRows = int(second.size()), .sampling = {}},
      {.sequence = *a, .tokens = first, .logitRows = int(first.size()), .sampling = {}}};
  std::vector<StepOutput> outputs(2);
  Status status = engine->step(entries, outputs);
  ASSERT_TRUE(status.isOk()) << status.toString();
  for (size_t row = 0; row < second.size(); ++row)
    EXPECT_LE(
        largestDifference(outputs[0].logits.subspan(row * vocabulary, vocabulary), secondRows[row]),
        kTolerance);
  for (size_t row = 0; row < first.size(); ++row)
    EXPECT_LE(
        largestDifference(outputs[1].logits.subspan(row * vocabulary, vocabulary), firstRows[row]),
        kTolerance);
}

TEST_P(BatchTest, ReleasedPagesCarryNothingOver) {
  std::vector<int32_t> prompt = someTokens(90, 21, int(vocabulary));
  Rows fresh = alone(prompt, {1, 2, 3});
  int pages = engine->freePages();
  for (uint32_t i = 0; i < 5; ++i)
    alone(someTokens(150 + 10 * int(i), 50 + i, int(vocabulary)), {4});
  EXPECT_EQ(engine->freePages(), pages);
  Rows again = alone(prompt, {1, 2, 3});
  ASSERT_EQ(again.size(), fresh.size());
  for (size_t row = 0; row < fresh.size(); ++row)
    EXPECT_LE(largestDifference(again[row], fresh[row]), kTolerance);
}

TEST_P(BatchTest, SeededSamplesAreThoseDrawnAlone) {
  auto request = [&](int i) {
    GenerateRequest request;
    request.prompt = someTokens(3 + 11 * i, uint32_t(i) + 300, int(vocabulary));
    request.maxNewTokens = 16;
    if (i % 4 != 0)
      request.sampling = {.temperature = 0.6f + 0.05f * float(i),
                          .topK = i % 2 ? 40 : 0,
                          .topP = i % 3 ? 0.9f : 1.0f,
                          .seed = uint64_t(i) * 977 + 5};
    return request;
  };
  Generator together(*engine);
  std::vector<RequestId> ids;
  for (int i = 0; i < kSequences; ++i) {
    auto id = together.submit(request(i));
    ASSERT_TRUE(id.isOk()) << id.status().toString();
    ids.push_back(*id);
  }
  ASSERT_TRUE(together.run().isOk());
  std::map<std::vector<int32_t>, int> distinct;
  for (int i = 0; i < kSequences; ++i) {
    auto batched = together.take(ids[size_t(i)]);
    ASSERT_TRUE(batched.isOk());
    Generator single(*engine);
    auto id = single.submit(request(i));
    ASSERT_TRUE(id.isOk());
    ASSERT_TRUE(single.run().isOk());
    auto alone = single.take(*id);
    ASSERT_TRUE(alone.isOk());
    EXPECT_EQ(batched->tokens, alone->tokens) << "request " << i;
    EXPECT_EQ(alone->tokens.size(), 16u);
    ++distinct[alone->tokens];
  }
  EXPECT_GE(distinct.size(), 12u);
}

INSTANTIATE_TEST_SUITE_P(Plans, BatchTest,
                         testing::Values(SLUICE_MOE_4M_ARTIFACT, SLUICE_MOE_4M_RANKS_ARTIFACT),
                         [](const auto &plan) {
                           return plan.index == 0 ? "OneRank" : "FourRanks";
                         });

} // namespace
} // namespace sluice
