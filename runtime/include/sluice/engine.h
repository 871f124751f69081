//===- engine.h - Load an artifact and run steps ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The C++ interface for embedding. An Engine holds a loaded artifact: weights mapped, worst-case
// memory allocated, kernels prepared. A step runs a ragged batch that mixes prefill chunks and
// single decode tokens of many sequences. After load nothing is allocated, compiled or tuned.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_ENGINE_H
#define SLUICE_ENGINE_H

#include "sluice/status.h"
#include "sluice/telemetry.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct LoadOptions {
  std::string device = "host"; ///< backend: "host"
  /// Host threads of this process, shared out evenly to the ranks it drives, at least one each;
  /// 0 = one per hardware thread, divided by the processes of the plan on this machine.
  int threads = 0;
  bool verify = true; ///< check every SHA-256 before use
  /// How the ranks of a plan reach each other: "local" (threads of this process), "mpi" (one
  /// process per rank, started by mpirun), or "auto": mpi in a process that mpirun started with
  /// others. MPI starts once in the life of a process, so that a process loads one engine with it.
  std::string collectives = "auto";
  /// Seconds that a rank waits for the others in one exchange before the step fails.
  double collectiveTimeout = 60;
};

/// Bytes that one rank takes, by kind; equal to the plan's.
struct RankMemory {
  uint64_t weights = 0, kv = 0, arena = 0, io = 0;
};

/// How a token is drawn from the logits. temperature 0 is greedy.
struct SamplingOptions {
  float temperature = 0;
  int topK = 0;   ///< 0 = all
  float topP = 1; ///< 1 = all
  uint64_t seed = 0;
};

/// Ok, or kInvalidArgument with the value and its range: temperature finite and at least 0, topK at
/// least 0, topP in (0, 1].
Status checkSampling(const SamplingOptions &sampling);

/// What the plan allows and what the model is; constant after load.
struct EngineInfo {
  std::string name, family, target;
  int vocabSize = 0, hiddenSize = 0, numLayers = 0, numExperts = 0, topK = 0, numRanks = 1;
  int maxBatchTokens = 0, maxSeqs = 0, maxSeqLen = 0, maxLogitRows = 0, pageSize = 0;
  int numPages = 0; ///< of each data parallel group
  int bosTokenId = -1;
  std::vector<int32_t> eosTokenIds;
  uint64_t totalParameters = 0, activeParameters = 0;
  int firstRank = 0, numLocalRanks = 1; ///< the ranks that this process drives
  /// Expert groups, ranks that share each of their experts, and data parallel groups of attention.
  int ep = 1, tp = 1, dp = 1;
  uint64_t weightBytes = 0, kvBytes = 0, arenaBytes = 0, ioBytes = 0; ///< of this process
  double loadSeconds = 0;
};

/// A live sequence: its tokens so far are in the KV cache. Plain handle, valid until released.
using SequenceId = int32_t;

/// One sequence's part of a step: `tokens` are appended at its end.
struct StepEntry {
  SequenceId sequence = -1;
  std::span<const int32_t> tokens;
  /// Logits rows wanted, counted from the last token of this part: 1 = only the last token,
  /// tokens.size() = every token, 0 = none (a prefill chunk that is not the last).
  int logitRows = 1;
  /// Draw a token from the last row; needs logitRows >= 1.
  bool sample = false;
  SamplingOptions sampling;
};

/// Where the results of one StepEntry lie after step(); views into the engine, valid until the
/// next.
struct StepOutput {
  std::span<const float> logits; ///< [logitRows, vocabSize], row-major, in token order
  int32_t sampledId = -1;
};

/// One loaded artifact. Not thread-safe: one thread at a time may call it.
///
/// With one process per rank, all processes make the same calls with the same arguments in the same
/// order; each gets all results.
class Engine {
public:
  /// Opens, verifies and loads the artifact directory. All memory of the engine is taken here. A
  /// failure of one process is everybody's. kInvalidArgument when the number of processes is not
  /// the plan's number of ranks.
  static Result<std::unique_ptr<Engine>> load(const std::string &path,
                                              const LoadOptions &options = {});
  virtual ~Engine() = default;

  virtual const EngineInfo &info() const = 0;

  /// Starts an empty sequence; fails with kResourceExhausted when maxSeqs are alive. It belongs to
  /// the data parallel group with the most free pages (of equals, to the one with the fewest
  /// sequences, then to the first).
  virtual Result<SequenceId> createSequence() = 0;
  /// Frees its KV pages; unknown handles are ignored.
  virtual void releaseSequence(SequenceId sequence) = 0;
  /// Tokens in the cache, or -1 for an unknown handle.
  virtual int sequenceLength(SequenceId sequence) const = 0;
  /// The data parallel group of a sequence, or -1 for an unknown handle.
  virtual int groupOf(SequenceId sequence) const = 0;
  /// KV pages not in use, of all data parallel groups together.
  virtual int freePages() const = 0;
  /// The same of one group in [0, dp), whose sequences share them.
  virtual int freePagesOf(int group) const = 0;

  /// Runs one batch. `outputs` must have as many elements as `entries`. Checks everything first
  /// (ids in range, total tokens, rows, sequence lengths, pages): on kInvalidArgument or
  /// kResourceExhausted nothing has changed. A sequence may appear once. kAborted when a rank
  /// failed or did not come within the time-out: the engine is broken then, and every later step
  /// says so.
  virtual Status step(std::span<const StepEntry> entries, std::span<StepOutput> outputs) = 0;

  /// Tokens routed to each expert since load, [moe layers * experts]; zeros for dense plans.
  virtual std::vector<uint64_t> expertCounts() const = 0;
  /// Number of MoE layers, the first dimension of expertCounts().
  virtual int numMoeLayers() const = 0;
  /// What the steps since load took and were made of; valid as long as the engine.
  virtual const EngineTelemetry &telemetry() const = 0;

  /// What rank `rank`, one that this process drives, takes of its memory.
  virtual RankMemory rankMemory(int rank) const = 0;
  /// Tells all processes of the plan how this one fares outside the engine (reading an input,
  /// writing a result), and learns how they do: ok, or the error of the first rank that failed. All
  /// processes call it; in a process that drives all ranks it returns `mine`.
  virtual Status agree(const Status &mine) = 0;

  /// The content of a file of the artifact ("tokenizer.json"), its hash checked;
  /// kNotFound when the artifact does not list it.
  virtual Result<std::string> readArtifactFile(std::string_view path) const = 0;
};

} // namespace sluice

#endif // SLUICE_ENGINE_H
