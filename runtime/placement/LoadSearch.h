//===- LoadSearch.h - Balancing device loads over scenarios -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The local search of the token objective. It lowers
//     J = sum over scenarios s of weight(s) * (sum over devices d of load(d, s)^16)^(1/16)
//       + sum over drifts i of 4.5 / size(i) * mean over devices d of load(d, i)^2
// (loads in units of the mean). The first sum is a smooth stand-in for the mean over scenarios of
// the heaviest device's load; the second keeps devices from growing together when traffic moves on
// in a direction in which it has moved before. J is lowered by swapping copies between a heavy
// device and any other, and by turning a copy of one expert into a copy of another.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_LOADSEARCH_H
#define SLUICE_RUNTIME_PLACEMENT_LOADSEARCH_H

#include "runtime/placement/Scenarios.h"

#include <vector>

namespace sluice::placement {

/// What the search starts from and leaves improved.
struct Arrangement {
  std::vector<std::vector<int>> held; ///< [devices] experts, distinct per device
  std::vector<int> counts;            ///< [experts] copies in `held`
};

struct LoadSearchOptions {
  int devicesPerNode = 0;
  const Placement *initial = nullptr; ///< for the migration term; must outlive the call
  double migrationCost = 0;           ///< in units of J per copy that is not where it was
};

/// Improves `arrangement` until no move helps and returns J plus the migration term. No move
/// doubles an expert on a device or, where that can be avoided, on a node.
double balanceLoads(Arrangement &arrangement, const ScenarioSet &set,
                    const LoadSearchOptions &options);

} // namespace sluice::placement

#endif // SLUICE_RUNTIME_PLACEMENT_LOADSEARCH_H
