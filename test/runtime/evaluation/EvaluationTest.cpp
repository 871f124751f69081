//===- EvaluationTest.cpp - Perplexity, greedy continuation, references -----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The evaluation runs against a small engine of the test's own whose logits are a known function of
// a sequence's last two tokens, so that every expected figure can be computed here.
//
//===------------------------------------------------------------------------===//
#include "runtime/evaluation/Evaluation.h"
#include "runtime/artifact/Safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

using namespace sluice;

namespace {

constexpr int kVocab = 7;

/// Logit of `next` after `token` whose predecessor in the sequence is `previous`.
float logitOf(int32_t previous, int32_t token, int32_t next) {
  return float((3 * previous + 5 * token + 2 * next * next) % 11) * 0.25f + 0.01f * float(next);
}

class FakeEngine : public Engine {
public:
  FakeEngine() {
    facts.vocabSize = kVocab;
    facts.maxBatchTokens = 12;
    facts.maxLogitRows = 8;
    facts.maxSeqs = 3;
    facts.maxSeqLen = 64;
    facts.pageSize = 4;
    facts.numPages = 48;
  }
  const EngineInfo &info() const override { return facts; }
  Result<SequenceId> createSequence() override {
    if (int(live.size()) == facts.maxSeqs)
      return resourceExhausted("too many sequences");
    live[nextId] = {};
    return nextId++;
  }
  void releaseSequence(SequenceId id) override { live.erase(id); }
  int sequenceLength(SequenceId id) const override { return int(live.at(id).size()); }
  int groupOf(SequenceId) const override { return 0; }
  int freePages() const override { return facts.numPages; }
  int freePagesOf(int) const override { return facts.numPages; }
  RankMemory rankMemory(int) const override { return {}; }
  Status agree(const Status &mine) override { return mine; }
  Status step(std::span<const StepEntry> entries, std::span<StepOutput> outputs) override {
    size_t tokens = 0, rows = 0;
    for (const StepEntry &entry : entries)
      tokens += entry.tokens.size(), rows += size_t(entry.logitRows);
    EXPECT_LE(tokens, size_t(facts.maxBatchTokens));
    EXPECT_LE(rows, size_t(facts.maxLogitRows));
    logits.assign(rows * kVocab, 0);
    size_t row = 0;
    for (size_t e = 0; e < entries.size(); ++e) {
      std::vector<int32_t> &history = live.at(entries[e].sequence);
      size_t first = row;
      for (size_t t = 0; t < entries[e].tokens.size(); ++t) {
        history.push_back(entries[e].tokens[t]);
        if (t + size_t(entries[e].logitRows) < entries[e].tokens.size())
          continue;
        int32_t previous = history.size() > 1 ? history[history.size() - 2] : 0;
        for (int32_t next = 0; next < kVocab; ++next)
          logits[row * kVocab + size_t(next)] = logitOf(previous, history.back(), next);
        ++row;
      }
      outputs[e].logits = std::span(logits).subspan(first * kVocab, (row - first) * kVocab);
      if (entries[e].sample) {
        auto last = outputs[e].logits.last(kVocab);
        outputs[e].sampledId = int32_t(std::max_element(last.begin(), last.end()) - last.begin());
      }
    }
    return Status::ok();
  }
  std::vector<uint64_t> expertCounts() const override { return {}; }
  int numMoeLayers() const override { return 0; }
  const EngineTelemetry &telemetry() const override { return counters; }
  Result<std::string> readArtifactFile(std::string_view path) const override {
    return notFound(std::string(path));
  }

  void setShape(int hiddenSize, int numLayers) {
    facts.hiddenSize = hiddenSize;
    facts.numLayers = numLayers;
  }

  size_t liveSequences() const { return live.size(); }

private:
  EngineInfo facts;
  EngineTelemetry counters;
  std::map<SequenceId, std::vector<int32_t>> live;
  SequenceId nextId = 0;
  std::vector<float> logits;
};

std::vector<int32_t> someTokens(int count) {
  std::vector<int32_t> tokens(size_t(count), 0);
  for (int i = 0; i < count; ++i)
    tokens[size_t(i)] = (i * i + 3 * i) % kVocab;
  return tokens;
}

/// Negative log-likelihood of token i + 1 in a context that starts at `start`.
double nllAt(const std::vector<int32_t> &tokens, size_t start, size_t i) {
  int32_t previous = i > start ? tokens[i - 1] : 0;
  double sum = 0;
  for (int32_t next = 0; next < kVocab; ++next)
    sum += std::exp(double(logitOf(previous, tokens[i], next)));
  return std::log(sum) - logitOf(previous, tokens[i], tokens[i + 1]);
}

TEST(Evaluation, LogitsComeInOrderAndInChunks) {
  FakeEngine engine;
  std::vector<int32_t> tokens = someTokens(21);
  int64_t seen = 0;
  ASSERT_TRUE(forEachLogits(engine, tokens, [&](int64_t first, std::span<const float> rows) {
                EXPECT_EQ(first, seen);
                for (size_t i = 0; i < rows.size() / kVocab; ++i, ++seen) {
                  int32_t previous = seen ? tokens[size_t(seen - 1)] : 0;
                  EXPECT_EQ(rows[i * kVocab + 3], logitOf(previous, tokens[size_t(seen)], 3));
                }
              }).isOk());
  EXPECT_EQ(seen, 21);
  EXPECT_EQ(engine.liveSequences(), 0u);
}

TEST(Evaluation, PerplexityResetsTheContextAtEveryWindow) {
  FakeEngine engine;
  std::vector<int32_t> tokens = someTokens(54);
  Result<Perplexity> result = scorePerplexity(engine, tokens, 10);
  ASSERT_TRUE(result.isOk()) << result.status().toString();
  double sum = 0;
  for (size_t window = 0; window < 5; ++window)
    for (size_t i = 0; i < 10; ++i)
      sum += nllAt(tokens, window * 10, window * 10 + i);
  EXPECT_EQ(result->windows, 5);
  EXPECT_EQ(result->predictions, 50);
  EXPECT_NEAR(result->perplexity, std::exp(sum / 50), 1e-6);
  EXPECT_EQ(engine.liveSequences(), 0u);
}

TEST(Evaluation, PerplexityRefusesWhatDoesNotFit) {
  FakeEngine engine;
  Result<Perplexity> tooShort = scorePerplexity(engine, someTokens(10), 10);
  ASSERT_FALSE(tooShort.isOk());
  EXPECT_NE(tooShort.status().message().find("one window needs 11"), std::string_view::npos);
  Result<Perplexity> tooLong = scorePerplexity(engine, someTokens(100), 65);
  ASSERT_FALSE(tooLong.isOk());
  EXPECT_NE(tooLong.status().message().find("max_seq_len 64"), std::string_view::npos);
}

/// Writes a reference file for `tokens`; `error` is added to one logit.
std::string writeReference(const std::vector<int32_t> &tokens, float error, int32_t wrongGreedy) {
  std::string path = ::testing::TempDir() + "/reference.safetensors";
  std::filesystem::remove(path);
  std::vector<float> logits, nll, margins;
  for (size_t i = 0; i < tokens.size(); ++i) {
    for (int32_t next = 0; next < kVocab; ++next)
      logits.push_back(logitOf(i ? tokens[i - 1] : 0, tokens[i], next));
    if (i + 1 < tokens.size())
      nll.push_back(float(nllAt(tokens, 0, i)));
  }
  logits[kVocab + 2] += error;
  FakeEngine engine;
  std::vector<int32_t> ids = tokens;
  std::vector<int32_t> continuation = *greedyContinuation(engine, tokens, 6, &margins);
  ids.insert(ids.end(), continuation.begin(), continuation.end());
  if (wrongGreedy >= 0)
    ids[tokens.size() + 1] = wrongGreedy;

  SafetensorsWriter writer;
  auto bytes = [](const auto &values) {
    return std::span(reinterpret_cast<const uint8_t *>(values.data()),
                     values.size() * sizeof(values[0]));
  };
  int64_t count = int64_t(tokens.size());
  EXPECT_TRUE(writer.declare("a.prompt_ids", DataType::kI32, {count}).isOk());
  EXPECT_TRUE(writer.declare("a.logits", DataType::kF32, {count, kVocab}).isOk());
  EXPECT_TRUE(writer.declare("a.nll", DataType::kF32, {count - 1}).isOk());
  EXPECT_TRUE(writer.declare("a.gen_ids", DataType::kI32, {int64_t(ids.size())}).isOk());
  EXPECT_TRUE(writer.declare("a.gen_margin", DataType::kF32, {6}).isOk());
  Result<OutputFile> output = OutputFile::create(path);
  EXPECT_TRUE(writer.begin(std::move(*output)).isOk());
  EXPECT_TRUE(writer.append("a.prompt_ids", bytes(tokens)).isOk());
  EXPECT_TRUE(writer.append("a.logits", bytes(logits)).isOk());
  EXPECT_TRUE(writer.append("a.nll", bytes(nll)).isOk());
  EXPECT_TRUE(writer.append("a.gen_ids", bytes(ids)).isOk());
  EXPECT_TRUE(writer.append("a.gen_margin", bytes(margins)).isOk());
  EXPECT_TRUE(writer.finish().isOk());
  return path;
}

TEST(Evaluation, GoldenPassesOnItself) {
  FakeEngine engine;
  std::string path = writeReference(someTokens(20), 0, -1);
  Result<GoldenReport> report = verifyGolden(engine, path);
  ASSERT_TRUE(report.isOk()) << report.status().toString();
  EXPECT_TRUE(report->passed);
  ASSERT_EQ(report->cases.size(), 1u);
  EXPECT_EQ(report->cases[0].name, "a");
  EXPECT_EQ(report->cases[0].rows, 20);
  EXPECT_EQ(report->cases[0].greedyCompared, 6);
  EXPECT_LE(report->cases[0].maxNllError, 1e-5);
}

TEST(Evaluation, GoldenFailsOnALogitOutsideTheTolerance) {
  FakeEngine engine;
  std::string path = writeReference(someTokens(20), 2e-3f, -1);
  Result<GoldenReport> report = verifyGolden(engine, path);
  ASSERT_TRUE(report.isOk());
  EXPECT_FALSE(report->passed);
  EXPECT_NEAR(report->cases[0].maxLogitError, 2e-3, 1e-5);
  EXPECT_TRUE(verifyGolden(engine, path, {.logit = 3e-3, .margin = 1e-3})->passed);
}

TEST(Evaluation, GoldenFailsOnAnotherGreedyToken) {
  FakeEngine engine;
  std::vector<int32_t> tokens = someTokens(20);
  int32_t right = (*greedyContinuation(engine, tokens, 2))[1];
  std::string path = writeReference(tokens, 0, (right + 1) % kVocab);
  Result<GoldenReport> report = verifyGolden(engine, path);
  ASSERT_TRUE(report.isOk());
  EXPECT_FALSE(report->passed);
  EXPECT_EQ(report->cases[0].greedyDiffers, 1);
}

TEST(Evaluation, GoldenRefusesHiddenStatesThatTheEngineDoesNotShow) {
  FakeEngine engine;
  std::string path = ::testing::TempDir() + "/hidden.safetensors";
  std::filesystem::remove(path);
  const std::vector<uint8_t> ids(8), state(2 * 4 * sizeof(float));
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.declare("input_ids", DataType::kI32, {2}).isOk());
  ASSERT_TRUE(writer.declare("hidden.0", DataType::kF32, {2, 4}).isOk());
  ASSERT_TRUE(writer.begin(std::move(*OutputFile::create(path))).isOk());
  ASSERT_TRUE(writer.append("input_ids", ids).isOk());
  ASSERT_TRUE(writer.append("hidden.0", state).isOk());
  ASSERT_TRUE(writer.finish().isOk());
  auto refusal = [&] { return verifyGolden(engine, path).status().toString(); };
  EXPECT_NE(refusal().find("\"hidden.0\" has 8 entries, expected 0"), std::string::npos);
  engine.setShape(/*hiddenSize=*/4, /*numLayers=*/1);
  EXPECT_NE(refusal().find("tensor \"hidden.1\" is missing"), std::string::npos);
  engine.setShape(4, 0);
  EXPECT_NE(refusal().find("does not show what its launches compute"), std::string::npos);
}

TEST(Evaluation, GoldenRefusesAFileThatIsNoReference) {
  FakeEngine engine;
  std::string path = ::testing::TempDir() + "/other.safetensors";
  std::filesystem::remove(path);
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.declare("weights", DataType::kU8, {0}).isOk());
  ASSERT_TRUE(writer.begin(std::move(*OutputFile::create(path))).isOk());
  ASSERT_TRUE(writer.finish().isOk());
  Result<GoldenReport> report = verifyGolden(engine, path);
  ASSERT_FALSE(report.isOk());
  EXPECT_NE(report.status().message().find("it is no reference file"), std::string_view::npos);
}

} // namespace
