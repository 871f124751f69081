//===- Conformance.h - What every collectives backend must do ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One suite for all backends. A case is run by every rank of a world, be it a thread or a process,
// and returns what it found wrong; so it depends on no test framework and works where ranks cannot
// see each other. Every rank can compute every other rank's data and thereby the exact result.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_COLLECTIVES_CONFORMANCE_H
#define SLUICE_TEST_RUNTIME_COLLECTIVES_CONFORMANCE_H

#include "runtime/collectives/Collectives.h"

#include <span>
#include <string>

namespace sluice::conformance {

struct Case {
  const char *name;
  /// Empty if all is well. The world works afterwards.
  std::string (*run)(Communicator &);
};

/// For worlds of any size.
std::span<const Case> healthyCases();

/// For worlds of at least two ranks in which the last one fails. The world is broken afterwards.
/// The world's time-out is kFaultWorldTimeout, so that a busy machine is not taken for a failure. A
/// case that needs the last rank to be silent until the others have noticed calls `hold` on the
/// last rank.
struct Fault {
  const char *name;
  std::string (*run)(Communicator &, void (*hold)());
};
std::span<const Fault> faults();
inline constexpr std::chrono::milliseconds kFaultWorldTimeout{30'000};
/// Of operations that a rank stays away from.
inline constexpr std::chrono::milliseconds kFaultTimeout{1000};

} // namespace sluice::conformance

#endif // SLUICE_TEST_RUNTIME_COLLECTIVES_CONFORMANCE_H
