//===- StepScript.cpp - The same steps on two engines -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/executor/StepScript.h"

#include <gtest/gtest.h>
#include <vector>

namespace sluice::test {
namespace {

struct Part {
  size_t sequence; ///< index into the script's sequences
  int tokens, rows;
  bool sample;
};

/// Steps of at most 16 tokens. A sequence that was released is made anew by its next part.
const std::vector<std::vector<Part>> kSteps = {
    {{0, 5, 5, true}},                                     // one group works, others have nothing
    {{0, 1, 1, true}, {1, 7, 0, false}, {2, 3, 2, true}},  // a chunk without rows
    {{2, 1, 1, false}, {1, 2, 1, true}, {3, 11, 4, true}}, // out of order
    {{3, 1, 1, true}, {1, 1, 1, true}, {0, 1, 1, true}, {2, 1, 1, true}}, // decode
    {{1, 1, 0, false}},
    {{0, 9, 3, true}, {3, 6, 6, false}},
    {{2, 1, 1, true}, {0, 1, 1, true}},
    {{3, 16, 16, true}},
};
/// After that step, the sequence is released.
constexpr std::pair<size_t, size_t> kReleases[] = {{3, 1}, {5, 0}};

} // namespace

void expectSameSteps(Engine &engine, Engine &reference) {
  Engine *engines[] = {&engine, &reference};
  std::vector<SequenceId> sequences[] = {{-1, -1, -1, -1}, {-1, -1, -1, -1}};
  int32_t next = 11;
  for (size_t step = 0; step < kSteps.size(); ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const std::vector<Part> &parts = kSteps[step];
    std::vector<std::vector<int32_t>> tokens;
    for (const Part &part : parts)
      for (tokens.emplace_back(); tokens.back().size() < size_t(part.tokens);)
        tokens.back().push_back(next = (next * 13 + 7) % 64);
    std::vector<StepOutput> outputs[2];
    for (int e = 0; e < 2; ++e) {
      std::vector<StepEntry> entries;
      for (size_t i = 0; i < parts.size(); ++i) {
        SequenceId &sequence = sequences[e][parts[i].sequence];
        if (sequence < 0)
          sequence = *engines[e]->createSequence();
        entries.push_back({.sequence = sequence,
                           .tokens = tokens[i],
                           .logitRows = parts[i].rows,
                           .sample = parts[i].sample,
                           .sampling = {.temperature = i % 2 ? 0.7f : 0.0f, .seed = step}});
      }
      outputs[e].resize(parts.size());
      const Status status = engines[e]->step(entries, outputs[e]);
      ASSERT_TRUE(status.isOk()) << status.toString();
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      EXPECT_EQ(outputs[0][i].sampledId, outputs[1][i].sampledId);
      ASSERT_EQ(outputs[0][i].logits.size(), outputs[1][i].logits.size());
      for (size_t j = 0; j < outputs[0][i].logits.size(); ++j)
        ASSERT_NEAR(outputs[0][i].logits[j], outputs[1][i].logits[j], 1e-4) << i << ", " << j;
    }
    for (const auto &[after, sequence] : kReleases)
      for (int e = 0; after == step && e < 2; ++e) {
        engines[e]->releaseSequence(sequences[e][sequence]);
        sequences[e][sequence] = -1;
      }
  }
}

} // namespace sluice::test
