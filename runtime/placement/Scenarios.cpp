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

/// Drifts smaller than this share of the mean expert load are noise of the counts.
constexpr double kLeastDrift = 0.004;

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

/// The principal components by cyclic Jacobi rotations (Golub, Van Loan, section 8.5) of the
/// scenarios' Gram matrix, which is small; largest first.
std::vector<std::vector<double>> principalDrifts(const std::vector<Scenario> &scenarios,
                                                 const std::vector<double> &mean) {
  int count = static_cast<int>(scenarios.size()), experts = static_cast<int>(mean.size());
  std::vector<std::vector<double>> away(count, std::vector<double>(experts));
  for (int s = 0; s < count; ++s)
    for (int e = 0; e < experts; ++e)
      away[s][e] = std::sqrt(scenarios[s].weight) * (scenarios[s].loads[e] - mean[e]);
  std::vector<std::vector<double>> gram(count, std::vector<double>(count));
  std::vector<std::vector<double>> basis(count, std::vector<double>(count, 0.0));
  for (int i = 0; i < count; ++i) {
    basis[i][i] = 1;
    for (int j = 0; j < count; ++j)
      gram[i][j] =
          std::inner_product(away[i].begin(), away[i].end(), away[j].begin(), 0.0) / experts;
  }
  constexpr int kSweeps = 12;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (int i = 0; i < count; ++i) {
      for (int j = i + 1; j < count; ++j) {
        if (std::abs(gram[i][j]) <= 1e-14 * std::sqrt(gram[i][i] * gram[j][j]))
          continue;
        double theta = (gram[j][j] - gram[i][i]) / (2 * gram[i][j]);
        double t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        double c = 1 / std::sqrt(t * t + 1), s = t * c;
        auto rotate = [&](double &x, double &y) {
          double oldX = x;
          x = c * x - s * y;
          y = s * oldX + c * y;
        };
        for (int k = 0; k < count; ++k)
          rotate(gram[k][i], gram[k][j]);
        for (int k = 0; k < count; ++k)
          rotate(gram[i][k], gram[j][k]);
        for (int k = 0; k < count; ++k)
          rotate(basis[k][i], basis[k][j]);
      }
    }
  }
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return gram[a][a] > gram[b][b]; });
  std::vector<std::vector<double>> drifts;
  for (int index : order) {
    if (static_cast<int>(drifts.size()) == kMaxDrifts ||
        gram[index][index] < kLeastDrift * kLeastDrift)
      break;
    // The component in units of its own standard deviation: sum of basis * away.
    std::vector<double> drift(experts, 0.0);
    for (int s = 0; s < count; ++s)
      for (int e = 0; e < experts; ++e)
        drift[e] += basis[s][index] * away[s][e];
    drifts.push_back(std::move(drift));
  }
  return drifts;
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
  set.drifts = principalDrifts(set.scenarios, mean);
  return set;
}

} // namespace sluice::placement
