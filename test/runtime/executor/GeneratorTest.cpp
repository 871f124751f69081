//===- GeneratorTest.cpp - Many requests on one engine ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What a request gets must not depend on its company: every test compares with requests run alone.
//
//===------------------------------------------------------------------------===//
#include "sluice/generator.h"

#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using testing::HasSubstr;

class GeneratorTest : public testing::Test {
protected:
  void load(const test::TinyShape &shape = {}) {
    Status written = test::writeArtifact(dir.file("tiny"), test::makeTinyModel(shape));
    ASSERT_TRUE(written.isOk()) << written.toString();
    auto loaded = Engine::load(dir.file("tiny"), {.threads = 1});
    ASSERT_TRUE(loaded.isOk()) << loaded.status().toString();
    engine = std::move(*loaded);
  }
  static GenerateRequest request(int promptTokens, int newTokens, int seed = 1) {
    GenerateRequest out;
    for (int i = 0; i < promptTokens; ++i)
      out.prompt.push_back((i * 11 + seed * 5) % 64);
    out.maxNewTokens = newTokens;
    out.sampling = {.temperature = 1.5f, .topK = 0, .topP = 1, .seed = uint64_t(seed)};
    return out;
  }
  GenerateResult alone(GenerateRequest r) {
    Generator generator(*engine);
    auto id = generator.submit(std::move(r));
    EXPECT_TRUE(id.isOk()) << id.status().toString();
    Status status = generator.run();
    EXPECT_TRUE(status.isOk()) << status.toString();
    return *generator.take(*id);
  }

  test::TempDir dir;
  std::unique_ptr<Engine> engine;
};

TEST_F(GeneratorTest, CompanyDoesNotChangeResults) {
  // Four sequences at once, 24 pages, 16 tokens per step: requests queue, prompts are chunked and
  // admission waits for pages.
  load();
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 10; ++i)
    expected.push_back(alone(request(3 + 4 * i, 12 - i, i)).tokens);
  Generator generator(*engine);
  std::vector<RequestId> ids;
  for (int i = 0; i < 10; ++i) {
    auto id = generator.submit(request(3 + 4 * i, 12 - i, i));
    ASSERT_TRUE(id.isOk()) << id.status().toString();
    ids.push_back(*id);
  }
  EXPECT_FALSE(generator.idle());
  ASSERT_TRUE(generator.run().isOk());
  EXPECT_TRUE(generator.idle());
  for (int i = 0; i < 10; ++i) {
    auto result = generator.take(ids[size_t(i)]);
    ASSERT_TRUE(result.isOk());
    EXPECT_EQ(result->tokens, expected[size_t(i)]) << "request " << i;
    EXPECT_EQ(result->reason, FinishReason::kMaxTokens);
    EXPECT_EQ(result->tokenSeconds.size(), result->tokens.size() - 1);
    EXPECT_GE(result->firstTokenSeconds, result->queueSeconds);
  }
  EXPECT_EQ(generator.firstTokenLatency().count(), 10u);
  EXPECT_EQ(engine->freePages(), 24);
  EXPECT_EQ(generator.take(ids[0]).status().code(), StatusCode::kNotFound);
}

TEST_F(GeneratorTest, FewLogitRowsOnlyDelay) {
  load({.maxLogitRows = 1});
  std::vector<int32_t> expected = alone(request(18, 5, 2)).tokens;
  Generator generator(*engine);
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i)
    ids.push_back(*generator.submit(request(18, 5, 2)));
  Status status = generator.run();
  ASSERT_TRUE(status.isOk()) << status.toString();
  for (RequestId id : ids)
    EXPECT_EQ(generator.take(id)->tokens, expected);
}

TEST_F(GeneratorTest, EndsForEveryReason) {
  load();
  std::vector<int32_t> tokens = alone(request(5, 8)).tokens;
  ASSERT_EQ(tokens.size(), 8u);

  GenerateRequest stopped = request(5, 8);
  stopped.stopIds = {-7, tokens[3]};
  size_t first = size_t(std::find(tokens.begin(), tokens.end(), tokens[3]) - tokens.begin());
  GenerateResult result = alone(stopped);
  EXPECT_EQ(result.reason, FinishReason::kStopToken);
  EXPECT_EQ(result.tokens, std::vector<int32_t>(tokens.begin(), tokens.begin() + first + 1));

  GenerateRequest cancelled = request(5, 8);
  std::vector<int32_t> seen;
  cancelled.onToken = [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 2;
  };
  result = alone(cancelled);
  EXPECT_EQ(result.reason, FinishReason::kCancelled);
  EXPECT_EQ(result.tokens, seen);
  EXPECT_EQ(seen.size(), 2u);

  // A prompt of 46 in a context of 48: the last token drawn is never fed back.
  result = alone(request(46, 100));
  EXPECT_EQ(result.reason, FinishReason::kContextFull);
  EXPECT_EQ(result.tokens.size(), 3u);
  result = alone(request(48, 1));
  EXPECT_EQ(result.reason, FinishReason::kMaxTokens);
}

TEST_F(GeneratorTest, CancelsQueuedAndRunningRequests) {
  load();
  Generator generator(*engine);
  std::vector<RequestId> ids;
  for (int i = 0; i < 6; ++i)
    ids.push_back(*generator.submit(request(8, 6, i)));
  ASSERT_TRUE(generator.step().isOk());
  EXPECT_EQ(generator.take(ids[0]).status().code(), StatusCode::kInvalidArgument);
  generator.cancel(ids[0]); // running
  generator.cancel(ids[5]); // waiting for one of four sequences
  generator.cancel(999);
  EXPECT_EQ(generator.take(ids[0])->reason, FinishReason::kCancelled);
  EXPECT_TRUE(generator.take(ids[5])->tokens.empty());
  ASSERT_TRUE(generator.run().isOk());
  EXPECT_EQ(generator.take(ids[4])->tokens, alone(request(8, 6, 4)).tokens);
  EXPECT_EQ(engine->freePages(), 24);
}

TEST_F(GeneratorTest, DestructionReleasesSequences) {
  load();
  {
    Generator generator(*engine);
    ASSERT_TRUE(generator.submit(request(20, 6)).isOk());
    ASSERT_TRUE(generator.step().isOk());
    EXPECT_LT(engine->freePages(), 24);
  }
  EXPECT_EQ(engine->freePages(), 24);
}

TEST_F(GeneratorTest, RespectsForeignSequences) {
  load({.numPages = 12});
  SequenceId foreign = *engine->createSequence();
  std::vector<int32_t> tokens(16, 1);
  StepEntry entry{.sequence = foreign, .tokens = tokens, .logitRows = 0, .sampling = {}};
  StepOutput output;
  ASSERT_TRUE(engine->step({&entry, 1}, {&output, 1}).isOk());
  Generator generator(*engine);
  RequestId id = *generator.submit(request(30, 10)); // 10 pages; 8 are free
  Status status = generator.run();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("needs 10 KV pages, but only 8 are free"));
  engine->releaseSequence(foreign);
  ASSERT_TRUE(generator.run().isOk()) << "the request is still queued";
  EXPECT_EQ(generator.take(id)->tokens.size(), 10u);
}

TEST_F(GeneratorTest, RefusesWhatCanNeverRun) {
  load();
  Generator generator(*engine);
  auto expectRefusal = [&](GenerateRequest r, const std::string &message) {
    auto id = generator.submit(std::move(r));
    EXPECT_EQ(id.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(id.status().message()), HasSubstr(message));
  };
  expectRefusal(request(0, 1), "the prompt is empty");
  expectRefusal(request(49, 1), "the prompt has 49 tokens, but the plan allows 48");
  expectRefusal(request(1, 0), "maxNewTokens is 0; it must be at least 1");
  GenerateRequest bad = request(2, 1);
  bad.prompt[1] = 64;
  expectRefusal(bad, "token id 64 of the prompt is outside [0, 63]");
  bad = request(2, 1);
  bad.sampling.topP = 0;
  expectRefusal(bad, "top-p is 0.0");
  EXPECT_TRUE(generator.idle());
}

} // namespace
} // namespace sluice
