//===- HostEngine.h - An engine of host ranks -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Drives the ranks of a plan that live in this process: all of them, one thread each, or one, when
// every rank has a process of its own. The two differ in nothing but the numbers of ranks here: the
// step is laid out for all data parallel groups alike in every process, so that the processes agree
// without talking about it, and each local rank gets its group's part.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_HOSTENGINE_H
#define SLUICE_RUNTIME_EXECUTOR_HOSTENGINE_H

#include "runtime/artifact/Artifact.h"
#include "runtime/collectives/Collectives.h"
#include "runtime/executor/RankExecutor.h"
#include "runtime/executor/RankTeam.h"
#include "runtime/executor/SequenceTable.h"
#include "runtime/telemetry/ExpertCounters.h"
#include "sluice/engine.h"

#include <chrono>

namespace sluice {

/// How long ranks may differ in opening and loading, which takes longer than an exchange: they hash
/// terabytes.
inline constexpr std::chrono::minutes kLoadTimeout(30);

class HostEngine final : public Engine {
public:
  /// `local` are the ranks of this process; `artifact` has their weights.
  HostEngine(Artifact artifact, Communicators local);

  /// Takes all memory and prepares all kernels, with `threadsPerRank` host threads each. All
  /// processes call it; an error of one is everybody's.
  Status start(int threadsPerRank, std::chrono::steady_clock::time_point begin);

  /// Observes the first rank of this process.
  void observe(LaunchObserver *observer) { ranks[0]->observe(observer); }

  const EngineInfo &info() const override { return engineInfo; }
  Result<SequenceId> createSequence() override { return sequences.create(); }
  void releaseSequence(SequenceId sequence) override { sequences.release(sequence); }
  int sequenceLength(SequenceId sequence) const override;
  int groupOf(SequenceId sequence) const override;
  int freePages() const override;
  int freePagesOf(int group) const override { return sequences.freePages(group); }
  Status step(std::span<const StepEntry> entries, std::span<StepOutput> outputs) override;
  std::vector<uint64_t> expertCounts() const override { return experts.totals(); }
  int numMoeLayers() const override;
  const EngineTelemetry &telemetry() const override { return counters; }
  RankMemory rankMemory(int rank) const override;
  Status agree(const Status &mine) override;
  Result<std::string> readArtifactFile(std::string_view path) const override {
    return artifact.readFile(path);
  }

private:
  /// Counts of a step, or of one group's part.
  struct Totals {
    int64_t tokens = 0, seqs = 0, logitRows = 0, pages = 0;
  };

  static int limit(uint32_t value) { return static_cast<int>(value); } // validated to fit
  const proto::Limits &limits() const { return artifact.plan().limits(); }
  /// The data parallel group of a local rank.
  int groupOfRank(size_t local) const;

  void describe();
  Status startRank(size_t local, int threads);
  Status check(std::span<const StepEntry> entries, std::span<StepOutput> outputs);
  Status checkEntry(const StepEntry &entry, int slot) const;
  Status checkTotals() const;
  void layOut(std::span<const StepEntry> entries);
  void fill(std::span<const StepEntry> entries, size_t local);
  Status runRanks(std::span<const StepEntry> entries, size_t bucket);
  void collect(std::span<const StepEntry> entries, std::span<StepOutput> outputs);

  const Artifact artifact;
  Communicators communicators; ///< of the local ranks; outlive their executors
  EngineInfo engineInfo;
  SequenceTable sequences;
  std::unique_ptr<RankTeam> team;
  std::vector<std::unique_ptr<RankExecutor>> ranks; ///< local ones
  std::vector<Status> outcomes;                     ///< of the local ranks in the last step
  Status failure;                                   ///< what broke the engine

  // Of the step in preparation; sized at load.
  std::vector<uint64_t> lastStep; ///< per slot: number of the last step that named it
  uint64_t stepNumber = 0;
  Totals totals;
  std::vector<Totals> groupTotals; ///< by data parallel group
  std::vector<int64_t> groupRows;  ///< first row of logits of each group
  std::vector<int64_t> entryRows;  ///< first row of logits of each entry
  int sampled = 0;
  bool decodeOnly = true;

  ExpertCounters experts;
  EngineTelemetry counters;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_HOSTENGINE_H
