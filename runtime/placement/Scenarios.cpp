//===- Scenarios.cpp - The traffic a placement is prepared for --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/Scenarios.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace sluice::placement {
namespace {

/// Standard deviations added to the mean load when copies are given out. An expert whose load
/// varies between profiles will vary again; between 0.5 and 1.5 the held-out scores are flat.
constexpr double kDeviationShare = 0.7;

double squaredDistance(const std::vector<double> &a, const std::vector<double> &b) {
  double sum = 0;
  for (size_t e = 0; e < a.size(); ++e)
    sum += (a[e] - b[e]) * (a[e] - b[e]);
  return sum;
}

/// Keeps `limit` scenarios: farthest-first centres (Gonzalez 1985), every other one merged into its
/// nearest centre by weight. Windows of steady traffic are near duplicates, so little is lost.
void mergeScenarios(std::vector<Scenario> &scenarios, int limit) {
  int count = static_cast<int>(scenarios.size());
  if (count <= limit)
    return;
  std::vector<int> nearest(count, 0);
  std::vector<double> distance(count, std::numeric_limits<double>::max());
  std::vector<int> centres;
  for (int next = 0; static_cast<int>(centres.size()) < limit;) {
    int centre = static_cast<int>(centres.size());
    centres.push_back(next);
    for (int s = 0; s < count; ++s) {
      double d = squaredDistance(scenarios[s].loads, scenarios[next].loads);
      if (d < distance[s]) {
        distance[s] = d;
        nearest[s] = centre;
      }
    }
    next = static_cast<int>(std::max_element(distance.begin(), distance.end()) - distance.begin());
  }
  std::vector<Scenario> merged(limit);
  for (Scenario &m : merged) {
    m.loads.assign(scenarios.front().loads.size(), 0.0);
    m.weight = 0;
  }
  for (int s = 0; s < count; ++s) {
    Scenario &into = merged[nearest[s]];
    into.weight += scenarios[s].weight;
    for (size_t e = 0; e < into.loads.size(); ++e)
      into.loads[e] += scenarios[s].weight * scenarios[s].loads[e];
  }
  std::erase_if(merged, [](const Scenario &m) { return m.weight <= 0; });
  for (Scenario &m : merged)
    for (double &load : m.loads)
      load /= m.weight;
  scenarios = std::move(merged);
}

} // namespace

ScenarioSet buildScenarios(const std::vector<LoadSample> &samples, int experts) {
  ScenarioSet set;
  double weights = 0;
  for (const LoadSample &sample : samples) {
    double total = std::accumulate(sample.loads.begin(), sample.loads.end(), 0.0);
    if (total <= 0)
      continue;
    Scenario scenario{sample.loads, sample.weight};
    for (double &load : scenario.loads)
      load = load / total * experts;
    weights += sample.weight;
    set.scenarios.push_back(std::move(scenario));
  }
  if (set.scenarios.empty()) {
    set.scenarios.push_back({std::vector<double>(experts, 1.0), 1.0});
    weights = 1;
  }
  for (Scenario &scenario : set.scenarios)
    scenario.weight /= weights;

  std::vector<double> mean(experts, 0.0), variance(experts, 0.0);
  for (const Scenario &scenario : set.scenarios)
    for (int e = 0; e < experts; ++e)
      mean[e] += scenario.weight * scenario.loads[e];
  for (const Scenario &scenario : set.scenarios)
    for (int e = 0; e < experts; ++e)
      variance[e] +=
          scenario.weight * (scenario.loads[e] - mean[e]) * (scenario.loads[e] - mean[e]);
  set.robustLoads.resize(experts);
  for (int e = 0; e < experts; ++e)
    set.robustLoads[e] = mean[e] + kDeviationShare * std::sqrt(variance[e]);

  mergeScenarios(set.scenarios, kMaxScenarios);
  return set;
}

} // namespace sluice::placement
