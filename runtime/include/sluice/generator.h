//===- generator.h - Serve many requests with one engine --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Continuous batching: every step runs one token of each sequence that is generating and fills the
// rest of the batch with prompts, in chunks. A request is admitted in order of arrival, when KV
// pages for its longest possible outcome are free; so no sequence is ever evicted and all of them
// finish. After Orca (Yu et al., OSDI 2022) and Sarathi-Serve (Agrawal et al., OSDI 2024).
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_GENERATOR_H
#define SLUICE_GENERATOR_H

#include "sluice/engine.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace sluice {

using RequestId = int64_t;

/// Why a request ended. Values are part of the C API: never renumber.
enum class FinishReason : int {
  kNone = 0,        ///< it has not
  kStopToken = 1,   ///< one of its stop ids was drawn
  kMaxTokens = 2,   ///< maxNewTokens were drawn
  kContextFull = 3, ///< the sequence reached the plan's max_seq_len
  kCancelled = 4,   ///< its callback returned false, or cancel()
};

struct GenerateRequest {
  std::vector<int32_t> prompt; ///< at least one token
  int maxNewTokens = 16;       ///< at least one
  std::vector<int32_t> stopIds;
  SamplingOptions sampling;
  /// Called with every token as it is drawn, a stop token included, from within step(); false
  /// cancels the request. It must not throw and must not call the generator.
  std::function<bool(int32_t token)> onToken;
};

struct GenerateResult {
  std::vector<int32_t> tokens; ///< everything drawn; a stop token is the last one
  FinishReason reason = FinishReason::kNone;
  double queueSeconds = 0;         ///< from submit() to admission
  double firstTokenSeconds = 0;    ///< from submit() to the first token; 0 when there was none
  std::vector<float> tokenSeconds; ///< from each token to the next, tokens.size() - 1 of them
};

/// Not thread-safe. The engine must outlive the generator; sequences that others create on the same
/// engine are respected.
class Generator {
public:
  explicit Generator(Engine &engine);
  ~Generator(); ///< releases the sequences of unfinished requests
  Generator(const Generator &) = delete;
  Generator &operator=(const Generator &) = delete;

  /// Queues a request. kInvalidArgument when it can never run: empty prompt, a prompt that leaves
  /// no room for a token within max_seq_len, ids out of range, bad sampling options.
  Result<RequestId> submit(GenerateRequest request);
  /// Ends a request early; unknown or finished ones are ignored.
  void cancel(RequestId request);

  /// True when no request is queued or running.
  bool idle() const;
  /// Admits what fits and runs one batch. An error ends no request; it may be tried again.
  Status step();
  /// Steps until idle.
  Status run();

  /// The result of a finished request, which is then forgotten; kNotFound for unknown ids,
  /// kInvalidArgument for a request that has not finished.
  Result<GenerateResult> take(RequestId request);

  /// Times from submission to first token, and between tokens, of all requests so far.
  const LatencyHistogram &firstTokenLatency() const;
  const LatencyHistogram &tokenLatency() const;

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace sluice

#endif // SLUICE_GENERATOR_H
