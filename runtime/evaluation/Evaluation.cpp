//===- Evaluation.cpp - Logits, greedy continuation, perplexity -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/evaluation/Evaluation.h"

#include "runtime/base/Format.h"
#include "runtime/evaluation/LogitMath.h"

#include <algorithm>
#include <cmath>

namespace sluice {

namespace {

/// A sequence that is released when its scope ends.
class ScopedSequence {
public:
  static Result<ScopedSequence> create(Engine &engine) {
    SLUICE_ASSIGN_OR_RETURN(SequenceId id, engine.createSequence());
    return ScopedSequence(engine, id);
  }
  ScopedSequence(ScopedSequence &&other) noexcept
      : engine(std::exchange(other.engine, nullptr)), sequence(other.sequence) {}
  ScopedSequence &operator=(ScopedSequence &&) = delete;
  ~ScopedSequence() {
    if (engine)
      engine->releaseSequence(sequence);
  }
  SequenceId id() const { return sequence; }

private:
  ScopedSequence(Engine &engine, SequenceId sequence) : engine(&engine), sequence(sequence) {}
  Engine *engine;
  SequenceId sequence;
};

} // namespace

Status forEachLogits(Engine &engine, std::span<const int32_t> tokens, const LogitsSink &sink) {
  const EngineInfo &info = engine.info();
  SLUICE_ASSIGN_OR_RETURN(ScopedSequence sequence, ScopedSequence::create(engine));
  size_t chunk = size_t(std::min(info.maxBatchTokens, info.maxLogitRows));
  if (tokens.empty())
    return invalidArgument("no tokens; at least one is needed");
  // A step would name the tokens of its own chunk, not those of the whole text.
  if (tokens.size() > size_t(info.maxSeqLen))
    return invalidArgument(format("the text has %zu tokens, but the plan allows %d per sequence; "
                                  "shorten it or compile with a larger --max-seq-len",
                                  tokens.size(), info.maxSeqLen));
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    StepEntry entry;
    entry.sequence = sequence.id();
    entry.tokens = tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
    entry.logitRows = int(entry.tokens.size());
    StepOutput output;
    SLUICE_RETURN_IF_ERROR(engine.step({&entry, 1}, {&output, 1}));
    sink(int64_t(begin), output.logits);
  }
  return Status::ok();
}

Result<std::vector<int32_t>> greedyContinuation(Engine &engine, std::span<const int32_t> prompt,
                                                int64_t count, std::vector<float> *margins) {
  SLUICE_ASSIGN_OR_RETURN(ScopedSequence sequence, ScopedSequence::create(engine));
  std::vector<int32_t> result;
  std::span<const int32_t> input = prompt;
  size_t chunk = size_t(engine.info().maxBatchTokens);
  while (int64_t(result.size()) < count) {
    StepOutput output;
    for (size_t begin = 0; begin < input.size(); begin += chunk) {
      StepEntry entry;
      entry.sequence = sequence.id();
      entry.tokens = input.subspan(begin, std::min(chunk, input.size() - begin));
      bool last = begin + entry.tokens.size() == input.size();
      entry.logitRows = last ? 1 : 0;
      entry.sample = last;
      SLUICE_RETURN_IF_ERROR(engine.step({&entry, 1}, {&output, 1}));
    }
    if (margins)
      margins->push_back(argmaxAndMargin(output.logits).second);
    result.push_back(output.sampledId);
    input = std::span(result).last(1);
  }
  return result;
}

Result<Perplexity> scorePerplexity(Engine &engine, std::span<const int32_t> tokens, int64_t window,
                                   const std::function<void(int64_t, int64_t)> &progress) {
  const EngineInfo &info = engine.info();
  Perplexity result;
  result.tokens = int64_t(tokens.size());
  result.windows = tokens.empty() ? 0 : (result.tokens - 1) / window;
  if (result.windows < 1)
    return invalidArgument(format("the text has %zu tokens, and one window needs %lld; give a "
                                  "longer text",
                                  tokens.size(), (long long)(window + 1)));
  if (window > info.maxSeqLen)
    return invalidArgument(format("a window of %lld tokens exceeds the plan's max_seq_len %d; "
                                  "compile with --max-seq-len=%lld or more",
                                  (long long)window, info.maxSeqLen, (long long)window));
  // As many windows side by side as fill a step: large batches use the hardware best. Every row is
  // a prediction, so rows bound the batch as tokens do.
  int64_t perStep = std::min(info.maxBatchTokens, info.maxLogitRows);
  int64_t pagesPerWindow = (window + info.pageSize - 1) / info.pageSize, room = 0;
  for (int group = 0; group < info.dp; ++group)
    room += engine.freePagesOf(group) / pagesPerWindow;
  int64_t side = std::clamp<int64_t>(perStep / std::min<int64_t>(window, 64), 1,
                                     std::min<int64_t>({info.maxSeqs, result.windows, room}));
  int64_t chunk = std::max<int64_t>(1, perStep / side);
  double sum = 0;
  for (int64_t first = 0; first < result.windows; first += side) {
    int64_t group = std::min(side, result.windows - first);
    std::vector<ScopedSequence> sequences;
    for (int64_t i = 0; i < group; ++i) {
      SLUICE_ASSIGN_OR_RETURN(ScopedSequence sequence, ScopedSequence::create(engine));
      sequences.push_back(std::move(sequence));
    }
    for (int64_t at = 0; at < window; at += chunk) {
      int64_t count = std::min(chunk, window - at);
      std::vector<StepEntry> entries(group);
      std::vector<StepOutput> outputs(group);
      for (int64_t i = 0; i < group; ++i) {
        entries[i].sequence = sequences[i].id();
        entries[i].tokens = tokens.subspan(size_t((first + i) * window + at), size_t(count));
        entries[i].logitRows = int(count);
      }
      SLUICE_RETURN_IF_ERROR(engine.step(entries, outputs));
      for (int64_t i = 0; i < group; ++i)
        for (int64_t row = 0; row < count; ++row) {
          auto logits = outputs[i].logits.subspan(size_t(row) * info.vocabSize, info.vocabSize);
          int32_t next = tokens[size_t((first + i) * window + at + row + 1)];
          sum += logSumExp(logits) - logits[next];
          ++result.predictions;
        }
      if (progress)
        progress(result.predictions, result.windows * window);
    }
  }
  result.meanNegativeLogLikelihood = sum / double(result.predictions);
  result.perplexity = std::exp(result.meanNegativeLogLikelihood);
  return result;
}

} // namespace sluice
