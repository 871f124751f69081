//===- Evaluation.h - Is the model right? -----------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Three questions that users and tests ask of a loaded artifact: which logits does it give for
// these tokens, how well does it predict this text, and does it agree with a reference. All run
// through the public Engine, in prefill chunks like any other client.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EVALUATION_EVALUATION_H
#define SLUICE_RUNTIME_EVALUATION_EVALUATION_H

#include "sluice/engine.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace sluice {

/// Receives the logits of consecutive tokens, in order: `firstToken` is the index of the first row,
/// `rows` are [count, vocabSize]. Valid during the call.
using LogitsSink = std::function<void(int64_t firstToken, std::span<const float> rows)>;

/// Runs `tokens` as one sequence and hands the logits of every token to `sink`. The prompt goes in
/// chunks of at most min(maxBatchTokens, maxLogitRows) tokens.
Status forEachLogits(Engine &engine, std::span<const int32_t> tokens, const LogitsSink &sink);

/// Tokens `prompt` continues with greedily, `count` of them; margins[i] (if asked for) is the top-1
/// minus the top-2 logit of step i.
Result<std::vector<int32_t>> greedyContinuation(Engine &engine, std::span<const int32_t> prompt,
                                                int64_t count,
                                                std::vector<float> *margins = nullptr);

struct Perplexity {
  int64_t tokens = 0;  ///< of the text
  int64_t windows = 0; ///< complete windows scored
  int64_t predictions = 0;
  double meanNegativeLogLikelihood = 0; ///< natural logarithm
  double perplexity = 0;                ///< exp of it
};

/// Perplexity of a tokenised text: (tokens - 1) / window windows without overlap, the context reset
/// at each; every input predicts the token that follows it in the text. Windows run side by side as
/// far as the plan's limits allow. Fails when the text is shorter than one window or a window
/// longer than the plan's sequences. `progress` gets the predictions made so far.
Result<Perplexity> scorePerplexity(Engine &engine, std::span<const int32_t> tokens,
                                   int64_t window = 512,
                                   const std::function<void(int64_t, int64_t)> &progress = {});

/// Bounds of verifyGolden().
struct GoldenTolerance {
  /// Largest |difference| of a logit, a negative log-likelihood or an entry of a hidden state.
  double logit = 1e-3;
  double margin =
      1e-3; ///< argmax and greedy ids must agree where the reference's margin exceeds it
};

/// What was compared and how it came out.
struct GoldenReport {
  struct Case {
    std::string name; ///< prefix in the file, "" for single-case files
    int64_t rows = 0; ///< logits rows compared
    double maxLogitError = 0;
    double maxNllError = 0;
    /// By hidden state of the file: 0 is what the first layer gets, i what layer i makes of it, the
    /// last one after the final norm.
    std::vector<double> maxHiddenErrors;
    int64_t argmaxCompared = 0, argmaxDiffers = 0;
    int64_t greedyCompared = 0, greedyDiffers = 0; ///< ids up to the first narrow margin
    bool passed = true;
  };
  std::vector<Case> cases;
  bool passed = true;
};

/// Compares with a reference file: per case, the tensors `input_ids` [B, T] or `prompt_ids` [T],
/// and any of `logits` ([B, T, V] or [T, V]), `last_logits` [V], `nll` [T - 1], `hidden.0` to
/// `hidden.L` ([B, T, H], as Hugging Face's hidden_states of L layers), `gen_ids` with `gen_margin`
/// (greedy continuation: prompt followed by one id per margin). A file may hold several cases, told
/// apart by a prefix "name.". An error status means the comparison could not run; a comparison past
/// its tolerance is reported in the result.
Result<GoldenReport> verifyGolden(Engine &engine, const std::string &path,
                                  const GoldenTolerance &tolerance = {});

} // namespace sluice

#endif // SLUICE_RUNTIME_EVALUATION_EVALUATION_H
