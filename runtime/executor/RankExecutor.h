//===- RankExecutor.h - One rank's memory, kernels and programs -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A rank executor owns what one rank of the plan needs: its slabs, its prepared kernels, its groups
// of ranks and, for every bucket, a flat list of launches and collectives whose buffer addresses
// are resolved at load. Running a step is walking that list. An engine has one executor per rank it
// drives and fills their IO buffers.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_RANKEXECUTOR_H
#define SLUICE_RUNTIME_EXECUTOR_RANKEXECUTOR_H

#include "runtime/artifact/Artifact.h"
#include "runtime/artifact/StepAbi.h"
#include "runtime/collectives/Collectives.h"
#include "runtime/device/host/HostKernel.h"
#include "runtime/executor/HostMemory.h"
#include "runtime/executor/LaunchObserver.h"
#include "sluice/engine.h"
#include "sluice/status.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace sluice {

/// The IO slab by name; see StepAbi.h for the shapes.
struct StepIo {
  abi::StepHeader *header = nullptr;
  std::span<int32_t> tokenIds, positions, tokenSeq, seqStarts, kvLengths, pageTable, logitRows;
  std::span<abi::SamplingRow> sampling;
  std::span<const float> logits;
  std::span<const int32_t> sampledIds;
  std::span<const uint32_t> expertCounts; ///< empty in plans without experts
  // Only in plans with several data parallel groups:
  abi::StepHeader *globalHeader = nullptr;
  std::span<int32_t> groupTokens, groupLogitRows;
};

/// Not thread-safe; distinct ranks run at once, each on a thread of its own.
class RankExecutor {
public:
  /// Maps, allocates and prepares everything for rank `rank` of a verified artifact, which must
  /// outlive the executor. `threads` as in ThreadPool.
  static Result<std::unique_ptr<RankExecutor>> create(const Artifact &artifact, int rank,
                                                      int threads);

  /// Joins the groups of ranks that its programs exchange data with; all ranks of the plan do so at
  /// the same time. `communicator` is this rank's and must outlive the executor.
  Status connect(Communicator &communicator);

  int rankNumber() const { return rank; }
  StepIo &io() { return stepIo; }
  const StepIo &io() const { return stepIo; }
  const RankMemory &memory() const { return bytes; }

  size_t numBuckets() const { return programs.size(); }
  /// The largest batch that bucket `bucket` runs.
  int bucketTokens(size_t bucket) const { return programs[bucket].tokens; }

  /// Runs the step described by io() with the program of `bucket`, after connect(). All ranks of
  /// the plan do so at the same time. Allocates nothing, unless it fails: kAborted, with rank and
  /// command in where(), when another rank failed or did not come.
  Status run(size_t bucket);

  /// Calls `observer` after every launch from now on; null ends that.
  void observe(LaunchObserver *newObserver) { observer = newObserver; }

private:
  /// A collective with its addresses.
  struct Exchange {
    const proto::Collective *record;
    Group *group;
    std::byte *source, *result;
    const int32_t *counts;       ///< rows of each member in this step, or null: parts are equal
    uint64_t unit;               ///< elements (sums) or bytes (copies) of one row
    std::vector<uint64_t> parts; ///< of each member, in the same measure; of this step if counts
    size_t root;                 ///< member
  };
  /// A launch, or a collective when `kernel` is null.
  struct Command {
    const host::HostKernel *kernel;
    size_t first; ///< index of its first argument in Program::args, or into Program::exchanges
  };
  struct Program {
    int tokens = 0;
    std::vector<Command> commands;
    std::vector<void *> args;
    std::vector<Exchange> exchanges;
  };

  RankExecutor(const Artifact &artifact, int rank, int threads);
  Status allocateSlabs();
  void bindIo();
  template <typename T> std::span<T> ioBuffer(std::string_view name) const;
  Status prepare(const proto::Bucket &bucket);
  Status prepareLaunch(const proto::Launch &launch, const abi::StepDims &dims,
                       const host::HostKernel *&kernel, Program &program);
  Exchange prepareExchange(const proto::Collective &record) const;
  Status runExchange(Exchange &exchange);
  void *address(const proto::BufferRef &ref) const;
  void report(size_t bucket, size_t command) const;

  const Artifact &artifact;
  const proto::RankProgram &plan;
  const int rank;
  host::ThreadPool pool;
  RankMemory bytes;
  std::vector<HostMemory> blocks;
  std::vector<std::byte *> slabs; ///< base addresses, by slab index
  size_t ioSlab = 0;              ///< index of the IO slab
  StepIo stepIo;
  std::vector<std::unique_ptr<host::HostKernel>> kernels;
  std::map<std::vector<int>, std::unique_ptr<Group>> groups;
  std::vector<Program> programs; ///< by bucket
  LaunchObserver *observer = nullptr;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_RANKEXECUTOR_H
