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

/// At most this many directions of drift are balanced.
inline constexpr int kMaxDrifts = 4;

struct ScenarioSet {
  std::vector<Scenario> scenarios;
  /// Directions in which traffic has been seen to drift: orthogonal [experts] vectors, the
  /// principal components of the scenarios around their mean, each as long (root mean square over
  /// experts) as one standard deviation of the traffic in it. The next profile lies off the mean
  /// along them, in small ones further than seen, so they are balanced in themselves and not only
  /// as far as the samples went.
  std::vector<std::vector<double>> drifts;
  /// [experts] the load to replicate and pack by: mean plus a share of the standard deviation.
  std::vector<double> robustLoads;
};

/// Samples must be checked: right size, finite, not negative, positive weights.
ScenarioSet buildScenarios(const std::vector<LoadSample> &samples, int experts);

} // namespace sluice::placement

#endif // SLUICE_RUNTIME_PLACEMENT_SCENARIOS_H
