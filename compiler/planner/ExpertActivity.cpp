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

double distinctInWindows(std::span<const uint16_t> ids, int64_t layers, int64_t topK, int64_t batch,
                         int64_t windows) {
  const int64_t tokens = int64_t(ids.size()) / (layers * topK);
  if (batch < 1 || tokens < batch)
    return 0;
  const int64_t count = std::min(windows, tokens / batch);
  double sum = 0;
  int64_t counted = 0;
  std::vector<bool> seen(1 << 16);
  for (int64_t window = 0; window < count; ++window) {
    const int64_t first = count > 1 ? window * (tokens - batch) / (count - 1) : 0;
    for (int64_t layer = 0; layer < layers; ++layer) {
      seen.assign(seen.size(), false);
      int64_t distinct = 0;
      for (int64_t token = first; token < first + batch; ++token)
        for (int64_t k = 0; k < topK; ++k) {
          uint16_t id = ids[size_t((token * layers + layer) * topK + k)];
          if (id == 0xffff || seen[id])
            continue;
          seen[id] = true;
          ++distinct;
        }
      sum += double(distinct);
      counted += distinct > 0;
    }
  }
  return counted > 0 ? sum / double(counted) : 0;
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
