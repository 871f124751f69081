//===- MpiWorker.cpp - One rank of the suite under mpirun -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Started by MpiCollectivesTest: `sluice_mpi_worker SIZE healthy` runs all cases of a working
// world, `sluice_mpi_worker SIZE FAULT` one fault, after which the process ends like a tool would,
// with the exit code of the status. Findings and "rank R: passed" go to the standard output.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/mpi/MpiCommunicator.h"
#include "test/runtime/collectives/Conformance.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace sluice;
using namespace sluice::conformance;

namespace {

void holdForSeconds() { std::this_thread::sleep_for(std::chrono::seconds(5)); }

std::string runHealthy(Communicator &world) {
  for (const Case &one : healthyCases())
    if (std::string finding = one.run(world); !finding.empty())
      return std::string(one.name) + ": " + finding;
  // A second world in one process cannot be had, and asking for it harms nothing.
  const Status second = connectMpi({.worldSize = world.size()}).status();
  if (second.code() != StatusCode::kInvalidArgument)
    return "a second connection gave " + second.toString();
  return world.agree({}, "done").isOk() ? "" : "the end is not agreed upon";
}

// Only processes can do that, so it is no case of the common suite.
std::string runDeath(Communicator &world) {
  auto group = world.createGroup({.ranks = {0, 1}, .maxBytes = 4, .timeout = kFaultTimeout});
  if (!group.isOk())
    return group.status().toString();
  if (world.rank() == 1)
    std::raise(SIGKILL);
  const Status heard = (*group)->barrier("alone");
  return heard.code() == StatusCode::kAborted || heard.code() == StatusCode::kIo
             ? ""
             : "expected an error, got " + heard.toString();
}

std::string runFault(const std::string &name, Communicator &world) {
  for (const Fault &fault : faults())
    if (fault.name == name)
      return fault.run(world, holdForSeconds);
  return "no fault \"" + name + "\"";
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: sluice_mpi_worker SIZE (healthy | Dies | FAULT)\n");
    return 2;
  }
  const std::string what = argv[2];
  const bool healthy = what == "healthy";
  CollectiveBackends backends;
  registerAllCollectives(backends);
  Result<Communicators> world = backends.connect(
      "mpi", {.worldSize = std::atoi(argv[1]),
              .timeout = healthy ? std::chrono::milliseconds(60'000) : kFaultWorldTimeout});
  if (!world.isOk()) {
    std::printf("%s\n", world.status().toString().c_str());
    return static_cast<int>(world.status().code());
  }
  Communicator &self = *(*world)[0];
  const std::string finding = healthy          ? runHealthy(self)
                              : what == "Dies" ? runDeath(self)
                                               : runFault(what, self);
  std::printf("%s\n", finding.empty() ? ("rank " + std::to_string(self.rank()) + ": passed").c_str()
                                      : finding.c_str());
  std::fflush(stdout);
  const bool brokenWorld = !self.health().isOk();
  world->clear();
  if (!finding.empty())
    return 1;
  return brokenWorld ? static_cast<int>(StatusCode::kAborted) : 0;
}
