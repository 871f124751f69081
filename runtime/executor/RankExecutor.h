//===- RankExecutor.h - One rank's memory, kernels and programs -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A rank executor owns what one rank of the plan needs: its slabs, its prepared kernels and, for
// every bucket, a flat list of launches whose buffer addresses are resolved at load. Running a step
// is walking that list. An engine has one executor per rank it drives and fills their IO buffers.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_RANKEXECUTOR_H
#define SLUICE_RUNTIME_EXECUTOR_RANKEXECUTOR_H

#include "runtime/artifact/Artifact.h"
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/HostKernel.h"
#include "runtime/executor/HostMemory.h"
#include "runtime/executor/LaunchObserver.h"
#include "sluice/status.h"

#include <cstdint>
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
};

/// Bytes a rank takes, by kind.
struct RankMemory {
  uint64_t weights = 0, kv = 0, arena = 0, io = 0;
};

/// Not thread-safe; distinct ranks may run at once.
class RankExecutor {
public:
  /// Maps, allocates and prepares everything for rank `rank` of a verified artifact, which must
  /// outlive the executor. `threads` as in ThreadPool.
  static Result<std::unique_ptr<RankExecutor>> create(const Artifact &artifact, int rank,
                                                      int threads);

  StepIo &io() { return stepIo; }
  const StepIo &io() const { return stepIo; }
  const RankMemory &memory() const { return bytes; }

  size_t numBuckets() const { return programs.size(); }
  /// The largest batch that bucket `bucket` runs.
  int bucketTokens(size_t bucket) const { return programs[bucket].tokens; }

  /// Runs the step described by io() with the program of `bucket`. Allocates nothing.
  void run(size_t bucket);

  /// Calls `observer` after every launch from now on; null ends that.
  void observe(LaunchObserver *newObserver) { observer = newObserver; }

private:
  struct Launch {
    const host::HostKernel *kernel;
    size_t firstArg; ///< index into Program::args
  };
  struct Program {
    int tokens = 0;
    std::vector<Launch> launches;
    std::vector<void *> args;
  };

  RankExecutor(const Artifact &artifact, int rank, int threads);
  Status allocateSlabs();
  void bindIo();
  template <typename T> std::span<T> ioBuffer(std::string_view name) const;
  Status prepare(const proto::Bucket &bucket);
  void *address(const proto::BufferRef &ref) const;
  void report(size_t bucket, size_t launch) const;

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
  std::vector<Program> programs; ///< by bucket
  LaunchObserver *observer = nullptr;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_RANKEXECUTOR_H
