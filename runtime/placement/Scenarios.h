//===- Scenarios.h - The traffic a placement is prepared for ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Turns the samples of a request into the load scenarios that the search balances, and into the
// weight that decides which experts get copies.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_SCENARIOS_H
#define SLUICE_RUNTIME_PLACEMENT_SCENARIOS_H

#include "runtime/placement/PlacementSolver.h"

#include <vector>

namespace sluice::placement {

/// At most this many scenarios are balanced; more samples are merged with their nearest.
inline constexpr int kMaxScenarios = 32;

struct Scenario {
  std::vector<double> loads; ///< [experts] summing to the number of experts
  double weight = 1;         ///< summing to 1 over the scenarios
};

struct ScenarioSet {
  std::vector<Scenario> scenarios;
  /// [experts] the load to replicate and pack by: mean plus a share of the standard deviation.
  std::vector<double> robustLoads;
};

/// Samples must be checked: right size, finite, not negative, positive weights.
ScenarioSet buildScenarios(const std::vector<LoadSample> &samples, int experts);

} // namespace sluice::placement

#endif // SLUICE_RUNTIME_PLACEMENT_SCENARIOS_H
