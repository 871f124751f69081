//===- Engine.cpp - Load an artifact ----------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Before there is an engine, the processes of a plan find each other and open the artifact. Which
// comes first depends on the backend: with one process per rank the number of processes is a fact
// of the launch, and an artifact that one of them cannot open must become everybody's error; within
// one process the plan says how many ranks there are.
//
//===------------------------------------------------------------------------===//
#include "sluice/engine.h"

#include "runtime/base/Format.h"
#include "runtime/collectives/mpi/MpiCommunicator.h"
#include "runtime/executor/HostEngine.h"
#include "runtime/executor/LaunchObserver.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sched.h>
#include <unistd.h>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMaxTimeoutSeconds = 1e6;

Status checkOptions(const LoadOptions &options) {
  if (options.device != "host")
    return unsupported("device \"" + options.device +
                       "\" is not available in this build; the choices are: host");
  if (options.threads < 0 || options.threads > 1024)
    return invalidArgument("threads is " + std::to_string(options.threads) +
                           ", outside [0, 1024]; 0 means one per hardware thread");
  if (options.collectives != "auto" && options.collectives != "local" &&
      options.collectives != "mpi")
    return invalidArgument("collectives is " + quoteName(options.collectives) +
                           "; the choices are: auto, local, mpi");
  if (!(options.collectiveTimeout >= 0.001 && options.collectiveTimeout <= kMaxTimeoutSeconds))
    return invalidArgument("the time-out of collectives is " +
                           std::to_string(options.collectiveTimeout) +
                           " seconds, outside [0.001, 1000000]");
  return Status::ok();
}

/// Processes of the launch on this machine, as far as the launcher tells.
int processesHere() {
  for (const char *name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"})
    if (const char *value = std::getenv(name))
      return std::clamp(std::atoi(value), 1, 4096);
  return 1;
}

/// Host threads for each of `localRanks` ranks of this process.
int threadsPerRank(int asked, int localRanks, bool oneOfMany) {
  if (asked > 0)
    return std::max(1, asked / localRanks);
  // A launcher may have bound the process to a few processors or left it all of the machine.
  const int online = std::max(1, int(::sysconf(_SC_NPROCESSORS_ONLN)));
  cpu_set_t set;
  CPU_ZERO(&set);
  int usable = online;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    usable = std::max(1, CPU_COUNT(&set));
  const int share = oneOfMany ? std::min(usable, online / processesHere()) : usable;
  return std::max(1, share / localRanks);
}

/// Refuses what certainly does not fit: systems that overcommit would kill the process later.
Status checkMemory(const proto::Plan &plan, int firstRank, int numRanks) {
  uint64_t needed = 0;
  for (int rank = firstRank; rank < firstRank + numRanks; ++rank)
    for (const proto::Slab &slab : plan.ranks(rank).slabs())
      if (slab.kind() != proto::Slab::WEIGHTS)
        needed += slab.bytes(); // each is below 2^50 and ranks are few
  uint64_t physical = physicalMemoryBytes();
  if (physical != 0 && needed > physical)
    return resourceExhausted("the plan needs " + formatBinaryBytes(needed) +
                             " besides its weights, but this machine has " +
                             formatBinaryBytes(physical) +
                             "; compile with smaller --max-seqs, --max-seq-len or "
                             "--max-batch-tokens");
  return Status::ok();
}

/// Opens the artifact for one rank of `processes`, or for all ranks (processes = 0).
Result<Artifact> open(const std::string &path, const LoadOptions &options, int rank,
                      int processes) {
  SLUICE_ASSIGN_OR_RETURN(Artifact artifact,
                          Artifact::open(path, {.verify = options.verify,
                                                .threads = unsigned(options.threads),
                                                .rank = rank,
                                                .processes = processes}));
  const int numRanks = artifact.plan().ranks_size();
  if (Status fits = checkMemory(artifact.plan(), std::max(rank, 0), rank < 0 ? numRanks : 1);
      !fits.isOk())
    return fits.withContext("artifact " + path);
  return artifact;
}

} // namespace

std::span<const float> ObservedLaunch::floats(std::string_view name) const {
  for (const ObservedArg &arg : args)
    if (arg.name == name)
      return {reinterpret_cast<const float *>(arg.data.data()), arg.data.size() / sizeof(float)};
  return {};
}

Status observeLaunches(Engine &engine, LaunchObserver *observer) {
  auto *host = dynamic_cast<HostEngine *>(&engine);
  if (!host)
    return unsupported("this engine does not show what its launches compute");
  host->observe(observer);
  return Status::ok();
}

Status checkSampling(const SamplingOptions &s) {
  if (!(s.temperature >= 0) || !std::isfinite(s.temperature))
    return invalidArgument("temperature is " + std::to_string(s.temperature) +
                           "; it must be a finite number of at least 0");
  if (!(s.topP > 0 && s.topP <= 1))
    return invalidArgument("top-p is " + std::to_string(s.topP) + ", outside (0, 1]");
  if (s.topK < 0)
    return invalidArgument("top-k is " + std::to_string(s.topK) + "; it must be at least 0 (all)");
  return Status::ok();
}

Result<std::unique_ptr<Engine>> Engine::load(const std::string &path, const LoadOptions &options) {
  const Clock::time_point begin = Clock::now();
  SLUICE_RETURN_IF_ERROR(checkOptions(options));
  const std::optional<MpiLaunch> launch = detectMpiLaunch();
  const bool mpi =
      options.collectives == "mpi" || (options.collectives == "auto" && launch && launch->size > 1);
  CollectiveBackends backends;
  registerAllCollectives(backends);
  CollectiveOptions world;
  world.timeout = std::chrono::milliseconds(int64_t(options.collectiveTimeout * 1000));

  Communicators communicators;
  std::optional<Artifact> artifact;
  if (mpi) {
    if (launch) {
      world.worldSize = launch->size;
    } else { // the error says how many processes to start
      SLUICE_ASSIGN_OR_RETURN(const Artifact plan, Artifact::open(path, {.verify = false}));
      world.worldSize = plan.plan().ranks_size();
    }
    SLUICE_ASSIGN_OR_RETURN(communicators, backends.connect("mpi", world));
    Communicator &own = *communicators[0];
    auto opened = open(path, options, own.rank(), own.size());
    SLUICE_RETURN_IF_ERROR(own.agree(opened.status(), "open the artifact", kLoadTimeout));
    artifact.emplace(std::move(*opened));
  } else {
    SLUICE_ASSIGN_OR_RETURN(artifact, open(path, options, -1, 0));
    world.worldSize = artifact->plan().ranks_size();
    SLUICE_ASSIGN_OR_RETURN(communicators, backends.connect("local", world));
  }
  const int threads = threadsPerRank(options.threads, static_cast<int>(communicators.size()), mpi);
  auto engine = std::make_unique<HostEngine>(std::move(*artifact), std::move(communicators));
  SLUICE_RETURN_IF_ERROR(engine->start(threads, begin).withContext("artifact " + path));
  return std::unique_ptr<Engine>(std::move(engine));
}

} // namespace sluice
