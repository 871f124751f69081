//===- EngineTest.cpp - Steps of the engine on a tiny model -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The model is the hand-made one of ArtifactBuilder: one transformer layer with four experts, or
// none, where logits can be computed by hand.
//
//===------------------------------------------------------------------------===//
#include "sluice/engine.h"

#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"
#include "test/runtime/executor/AllocationCounter.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>

namespace sluice {
namespace {

using testing::HasSubstr;

class EngineTest : public testing::Test {
protected:
  void load(const test::TinyShape &shape = {}) {
    model = test::makeTinyModel(shape);
    Status written = test::writeArtifact(path, model);
    ASSERT_TRUE(written.isOk()) << written.toString();
    auto loaded = Engine::load(path, {.threads = 2});
    ASSERT_TRUE(loaded.isOk()) << loaded.status().toString();
    engine = std::move(*loaded);
  }
  SequenceId create() {
    auto sequence = engine->createSequence();
    EXPECT_TRUE(sequence.isOk()) << sequence.status().toString();
    return sequence.isOk() ? *sequence : -1;
  }
  /// Runs one entry; returns its rows of logits.
  std::vector<float> run(SequenceId sequence, std::span<const int32_t> tokens, int rows) {
    StepEntry entry{.sequence = sequence, .tokens = tokens, .logitRows = rows, .sampling = {}};
    StepOutput output;
    Status status = engine->step({&entry, 1}, {&output, 1});
    EXPECT_TRUE(status.isOk()) << status.toString();
    return {output.logits.begin(), output.logits.end()};
  }
  Status tryStep(std::vector<StepEntry> entries) {
    std::vector<StepOutput> outputs(entries.size());
    return engine->step(entries, outputs);
  }
  /// A step that must be refused with `message` and change nothing.
  void expectRefusal(std::vector<StepEntry> entries, StatusCode code, const std::string &message) {
    std::vector<int> lengths;
    for (const StepEntry &entry : entries)
      lengths.push_back(engine->sequenceLength(entry.sequence));
    int pages = engine->freePages();
    Status status = tryStep(entries);
    EXPECT_EQ(status.code(), code) << status.toString();
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_EQ(engine->freePages(), pages);
    for (size_t i = 0; i < entries.size(); ++i)
      EXPECT_EQ(engine->sequenceLength(entries[i].sequence), lengths[i]);
  }

  test::TempDir dir;
  const std::string path = dir.file("tiny.sluice");
  test::TinyModel model;
  std::unique_ptr<Engine> engine;
};

std::vector<int32_t> someTokens(int count, int seed = 3) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i)
    tokens[size_t(i)] = (i * 7 + seed) % 64;
  return tokens;
}

void expectNear(std::span<const float> a, std::span<const float> b, float tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], b[i], tolerance) << "at " << i;
}

TEST_F(EngineTest, LogitsOfAModelWithoutLayersAreATableProduct) {
  load({.layers = 0});
  const std::vector<float> &table = model.weights[0].values[0], &head = model.weights[0].values[1];
  std::vector<int32_t> tokens = {5, 0, 63, 17, 5};
  std::vector<float> logits = run(create(), tokens, 5);
  ASSERT_EQ(logits.size(), 5u * 64);
  for (size_t t = 0; t < tokens.size(); ++t)
    for (size_t n = 0; n < 64; ++n) {
      float expected = 0; // the head is packed in panels [n / 16][k][n % 16]
      for (size_t k = 0; k < 32; ++k)
        expected += table[size_t(tokens[t]) * 32 + k] * head[(n / 16 * 32 + k) * 16 + n % 16];
      ASSERT_NEAR(logits[t * 64 + n], expected, 1e-5f) << t << ", " << n;
    }
}

TEST_F(EngineTest, InfoSaysWhatThePlanAllows) {
  load();
  const EngineInfo &info = engine->info();
  EXPECT_EQ(info.name, "tiny");
  EXPECT_EQ(info.vocabSize, 64);
  EXPECT_EQ(info.numExperts, 4);
  EXPECT_EQ(info.maxBatchTokens, 16);
  EXPECT_EQ(info.maxSeqLen, 48);
  EXPECT_EQ(info.numPages, 24);
  EXPECT_EQ(info.eosTokenIds, std::vector<int32_t>{0});
  EXPECT_GT(info.weightBytes, 0u);
  EXPECT_EQ(info.kvBytes, 24u * 4 * 16 * 4 * 2); // pages, tokens, head_dim, float, k and v
  EXPECT_EQ(*engine->readArtifactFile("tokenizer.json"), "{}\n");
}

/// Properties that must hold whatever kind of attention a model has.
class EngineAttentionTest : public EngineTest, public testing::WithParamInterface<bool> {
protected:
  void SetUp() override { load({.latent = GetParam()}); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, EngineAttentionTest, testing::Bool(),
                         [](const auto &info) { return info.param ? "Latent" : "Grouped"; });

TEST_P(EngineAttentionTest, ChunkedPrefillEqualsWholePrefill) {
  std::vector<int32_t> tokens = someTokens(13);
  std::vector<float> whole = run(create(), tokens, 13);
  for (int chunk : {1, 2, 5, 12}) {
    SequenceId sequence = create();
    std::vector<float> parts;
    for (int at = 0; at < 13; at += chunk) {
      int count = std::min(chunk, 13 - at);
      std::vector<float> logits = run(sequence, std::span(tokens).subspan(at, count), count);
      parts.insert(parts.end(), logits.begin(), logits.end());
    }
    expectNear(whole, parts, 1e-5f);
    engine->releaseSequence(sequence);
  }
}

TEST_P(EngineAttentionTest, MixedBatchEqualsSequencesAlone) {
  const int lengths[] = {9, 3, 6};
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < 3; ++i) {
    tokens.push_back(someTokens(lengths[i], i));
    SequenceId sequence = create();
    alone.push_back(run(sequence, tokens[size_t(i)], 1));
    engine->releaseSequence(sequence);
  }
  // The first sequence decodes its last token while the others prefill; pages interleave.
  SequenceId ids[3] = {create(), create(), create()};
  std::span<const int32_t> first = tokens[0];
  run(ids[0], first.first(4), 0);
  run(ids[1], std::span(tokens[1]).first(1), 0);
  run(ids[0], first.subspan(4, 4), 0);
  std::vector<StepEntry> entries = {
      {.sequence = ids[2], .tokens = tokens[2], .sampling = {}},
      {.sequence = ids[0], .tokens = first.subspan(8), .sampling = {}},
      {.sequence = ids[1], .tokens = std::span(tokens[1]).subspan(1), .sampling = {}}};
  std::vector<StepOutput> outputs(3);
  ASSERT_TRUE(engine->step(entries, outputs).isOk());
  expectNear(outputs[0].logits, alone[2], 1e-5f);
  expectNear(outputs[1].logits, alone[0], 1e-5f);
  expectNear(outputs[2].logits, alone[1], 1e-5f);
}

TEST_F(EngineTest, SamplesTheArgmaxUnlessAskedOtherwise) {
  load();
  std::vector<int32_t> tokens = someTokens(4);
  std::vector<StepEntry> entries = {
      {.sequence = create(), .tokens = tokens, .sample = true, .sampling = {}},
      {.sequence = create(), .tokens = tokens, .logitRows = 2, .sampling = {}}};
  std::vector<StepOutput> outputs(2);
  ASSERT_TRUE(engine->step(entries, outputs).isOk());
  auto logits = outputs[0].logits;
  EXPECT_EQ(outputs[0].sampledId, std::max_element(logits.begin(), logits.end()) - logits.begin());
  EXPECT_EQ(outputs[1].sampledId, -1);
  EXPECT_EQ(outputs[1].logits.size(), 2u * 64);

  // Equal seeds and positions give equal tokens, whatever else is in the batch.
  SamplingOptions hot{.temperature = 2, .topK = 0, .topP = 1, .seed = 11};
  auto draw = [&](int others) {
    std::vector<StepEntry> batch;
    for (int i = 0; i <= others; ++i)
      batch.push_back({.sequence = create(), .tokens = tokens, .sample = true, .sampling = hot});
    std::vector<StepOutput> results(batch.size());
    EXPECT_TRUE(engine->step(batch, results).isOk());
    for (const StepEntry &entry : batch)
      engine->releaseSequence(entry.sequence);
    return results.back().sampledId;
  };
  for (const StepEntry &entry : entries)
    engine->releaseSequence(entry.sequence);
  EXPECT_EQ(draw(0), draw(3));
}

TEST_F(EngineTest, BadRequestsAreRefusedAndChangeNothing) {
  load();
  std::vector<int32_t> tokens = someTokens(4), large = someTokens(17), negative = {3, -1},
                       high = {64}, more = someTokens(45);
  SequenceId a = create(), b = create();
  run(a, tokens, 1);
  auto entry = [](SequenceId sequence, std::span<const int32_t> tokens, int rows = 1) {
    return StepEntry{.sequence = sequence, .tokens = tokens, .logitRows = rows, .sampling = {}};
  };
  const StatusCode bad = StatusCode::kInvalidArgument;
  expectRefusal({}, bad, "the step has no entries");
  expectRefusal({entry(99, tokens)}, bad, "entry 0: sequence 99 does not exist or was released");
  expectRefusal({entry(-1, tokens)}, bad, "sequence -1 does not exist");
  expectRefusal({entry(a, {})}, bad, "entry 0: has no tokens");
  expectRefusal({entry(a, tokens), entry(b, negative)}, bad,
                "entry 1: token id -1 is outside [0, 63]");
  expectRefusal({entry(a, high)}, bad, "token id 64 is outside [0, 63]");
  expectRefusal({entry(a, tokens), entry(a, tokens)}, bad, "appears twice in the step");
  expectRefusal({entry(a, large)}, bad, "the step has 17 tokens, but the plan allows 16");
  expectRefusal({entry(a, more)}, bad,
                "sequence would have 49 tokens, but the plan allows 48; shorten the prompt");
  expectRefusal({entry(a, tokens, 5)}, bad, "logitRows is 5, outside [0, 4]");
  expectRefusal({entry(a, tokens, -1)}, bad, "logitRows is -1, outside [0, 4]");
  StepOutput output;
  EXPECT_THAT(
      std::string(
          engine->step(std::vector{entry(a, tokens), entry(b, tokens)}, {&output, 1}).message()),
      HasSubstr("the step has 2 entries, but 1 outputs"));

  auto sampling = [&](SamplingOptions options, int rows = 1) {
    return StepEntry{
        .sequence = a, .tokens = tokens, .logitRows = rows, .sample = true, .sampling = options};
  };
  expectRefusal({sampling({}, 0)}, bad, "sampling needs logitRows of at least 1");
  expectRefusal({sampling({.temperature = -1})}, bad, "temperature is -1.0");
  expectRefusal({sampling({.temperature = NAN})}, bad, "it must be a finite number");
  expectRefusal({sampling({.topK = -2})}, bad, "top-k is -2");
  expectRefusal({sampling({.topP = 0})}, bad, "top-p is 0.0");
  expectRefusal({sampling({.topP = NAN})}, bad, "outside (0, 1]");
}

TEST_F(EngineTest, LogitRowsAreLimited) {
  load({.maxLogitRows = 3});
  std::vector<int32_t> tokens = someTokens(4);
  SequenceId a = create();
  expectRefusal({{.sequence = a, .tokens = tokens, .logitRows = 4, .sampling = {}}},
                StatusCode::kInvalidArgument,
                "the step asks for 4 rows of logits, but the plan allows 3");
  EXPECT_EQ(run(a, tokens, 3).size(), 3u * 64);
}

TEST_F(EngineTest, SequencesRunOutAndHandlesDoNotReturn) {
  load();
  std::vector<SequenceId> ids;
  for (int i = 0; i < 4; ++i)
    ids.push_back(create());
  auto more = engine->createSequence();
  EXPECT_EQ(more.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(more.status().message()), HasSubstr("all 4 sequences of the plan"));
  engine->releaseSequence(ids[2]);
  engine->releaseSequence(ids[2]);
  engine->releaseSequence(12345);
  SequenceId fresh = create();
  EXPECT_NE(fresh, ids[2]);
  EXPECT_EQ(engine->sequenceLength(ids[2]), -1);
  EXPECT_EQ(engine->sequenceLength(fresh), 0);
  EXPECT_FALSE(engine->createSequence().isOk());
}

TEST_F(EngineTest, PagesRunOutAndReturn) {
  load({.numPages = 12});
  std::vector<int32_t> tokens = someTokens(16);
  SequenceId a = create(), b = create(), c = create();
  run(a, tokens, 0);
  run(a, tokens, 0);
  run(b, std::span(tokens).first(13), 0); // 8 + 4 pages of 4 tokens
  EXPECT_EQ(engine->freePages(), 0);
  run(b, std::span(tokens).first(3), 0); // still inside b's last page
  expectRefusal({{.sequence = c, .tokens = std::span(tokens).first(1), .sampling = {}}},
                StatusCode::kResourceExhausted, "the step needs 1 KV pages, but 0 of 12 are free");
  engine->releaseSequence(a);
  EXPECT_EQ(engine->freePages(), 8);
  // Reused pages give the same logits as fresh ones.
  std::vector<float> reused = run(c, tokens, 1);
  engine->releaseSequence(b);
  engine->releaseSequence(c);
  expectNear(run(create(), tokens, 1), reused, 1e-6f);
}

TEST_P(EngineAttentionTest, StepsAllocateNothing) {
  std::vector<int32_t> prompt = someTokens(9), token = {5};
  std::vector<StepEntry> entries = {
      {.sequence = create(), .tokens = prompt, .sample = true, .sampling = {.temperature = 1}},
      {.sequence = create(), .tokens = token, .sample = true, .sampling = {}}};
  std::vector<StepOutput> outputs(2);
  const uint64_t before = test::allocationCount();
  for (int i = 0; i < 9; ++i) {
    Status status = engine->step(entries, outputs);
    ASSERT_TRUE(status.isOk()) << status.toString();
    entries[0].tokens = token;
  }
  engine->releaseSequence(entries[0].sequence);
  ASSERT_TRUE(engine->createSequence().isOk());
  EXPECT_EQ(test::allocationCount(), before);
}

TEST_F(EngineTest, CountsTokensOfExperts) {
  load({.layers = 2});
  ASSERT_EQ(engine->numMoeLayers(), 2);
  SequenceId a = create();
  run(a, someTokens(10), 1);
  run(a, someTokens(1), 1);
  std::vector<uint64_t> counts = engine->expertCounts();
  ASSERT_EQ(counts.size(), 8u);
  for (int layer = 0; layer < 2; ++layer)
    EXPECT_EQ(
        std::accumulate(counts.begin() + layer * 4, counts.begin() + layer * 4 + 4, uint64_t(0)),
        11u * 2);
  const EngineTelemetry &telemetry = engine->telemetry();
  EXPECT_EQ(telemetry.steps.count(), 2u);
  EXPECT_EQ(telemetry.decodeSteps.count(), 1u);
  EXPECT_EQ(telemetry.tokens, 11u);
  EXPECT_EQ(telemetry.bucketTokens, 17u);
  EXPECT_GE(telemetry.distinctExperts, 2u * 2 * 2); // at least top_k per layer and step
  EXPECT_LE(telemetry.distinctExperts, 2u * 2 * 4);
}

TEST_F(EngineTest, LoadErrorsSayWhatToChange) {
  EXPECT_EQ(Engine::load(path).status().code(), StatusCode::kNotFound);
  load();
  auto device = Engine::load(path, {.device = "cuda"});
  EXPECT_EQ(device.status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("\"cuda\" is not available"));
  EXPECT_EQ(Engine::load(path, {.threads = -1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(Engine::load(path, {.threads = 1, .verify = false}).isOk());

  // A cache no machine has: refused before the process is killed for using it.
  model.plan.mutable_ranks(0)->mutable_slabs(proto::Slab::KV)->set_bytes(uint64_t(1) << 49);
  ASSERT_TRUE(test::writeArtifact(path, model).isOk());
  auto huge = Engine::load(path);
  EXPECT_EQ(huge.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(huge.status().message()), HasSubstr("but this machine has"));
}

} // namespace
} // namespace sluice
