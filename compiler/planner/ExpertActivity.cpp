//===- ExpertActivity.cpp - How many experts a batch wakes ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/ExpertActivity.h"

#include "runtime/base/Format.h"

#include <algorithm>
#include <cmath>

namespace sluice::planner {

std::vector<double> uniformChoice(int64_t experts, int64_t topK) {
  return std::vector<double>(size_t(experts), double(topK) / double(experts));
}

Result<RoutingStats> statsFromCounts(const std::vector<std::vector<double>> &counts,
                                     int64_t moeLayers, int64_t experts, int64_t topK,
                                     const std::string &source) {
  RoutingStats stats;
  stats.source = source;
  double fewest = 0;
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    double sum = 0;
    for (double count : counts[layer]) {
      if (!std::isfinite(count) || count < 0)
        return invalidArgument(format("%s: layer %zu has the count %g; counts are finite and not "
                                      "negative",
                                      source.c_str(), layer, count));
      sum += count;
    }
    if (sum == 0)
      continue;
    if (counts[layer].size() != size_t(experts))
      return invalidArgument(format("%s: layer %zu has counts of %zu experts, the model has %lld; "
                                    "it is the profile of another model",
                                    source.c_str(), layer, counts[layer].size(),
                                    (long long)experts));
    double tokens = sum / double(topK);
    std::vector<double> chosen;
    for (double count : counts[layer])
      chosen.push_back(count / tokens);
    // Recorders round and sample; an expert cannot be chosen twice by a token.
    double most = *std::max_element(chosen.begin(), chosen.end());
    if (most > 1.001)
      return invalidArgument(
          format("%s: layer %zu has an expert in %.3g of the choices of a token, "
                 "which chooses %lld different ones; it is the profile of "
                 "another model",
                 source.c_str(), layer, most / double(topK), (long long)topK));
    for (double &value : chosen)
      value = std::min(value, 1.0);
    fewest = stats.chosen.empty() ? tokens : std::min(fewest, tokens);
    stats.chosen.push_back(std::move(chosen));
  }
  if (stats.chosen.size() != size_t(moeLayers))
    return invalidArgument(format("%s: %zu layers have counts, the model has %lld with experts; it "
                                  "is the profile of another model",
                                  source.c_str(), stats.chosen.size(), (long long)moeLayers));
  stats.tokens = int64_t(fewest);
  return stats;
}

double activeProbability(double chosen, int64_t batch, int64_t tokens) {
  chosen = std::clamp(chosen, 0.0, 1.0);
  if (tokens <= 0 || batch > tokens)
    return chosen >= 1 ? 1 : -std::expm1(double(batch) * std::log1p(-chosen));
  // C(N - c, B) / C(N, B), the chance that a sample of B misses all of the c tokens.
  double n = double(tokens), c = chosen * n, b = double(batch);
  if (b > n - c)
    return c > 0 ? 1 : 0;
  double missed = std::lgamma(n - c + 1) - std::lgamma(n - c - b + 1) - std::lgamma(n + 1) +
                  std::lgamma(n - b + 1);
  return std::clamp(-std::expm1(missed), 0.0, 1.0);
}

double distinctExperts(std::span<const double> chosen, int64_t batch, int64_t tokens) {
  double sum = 0;
  for (double probability : chosen)
    sum += activeProbability(probability, batch, tokens);
  return sum;
}

double tiledRows(double chosen, int64_t batch, int64_t tile, int64_t tokens) {
  double active = activeProbability(chosen, batch, tokens);
  if (active <= 0)
    return 0;
  // Of an active expert with m expected rows: one tile as long as m is small, and (tile - 1) / 2
  // rows of padding on average when m is large.
  double rows = chosen * double(batch) / active, size = double(tile);
  return active * size * (1 + std::max(0.0, rows - (size + 1) / 2) / size);
}

} // namespace sluice::planner
