//===- ActivationSearch.cpp - Placing for few activated experts -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/ActivationSearch.h"

#include "runtime/placement/ReplicaRouter.h"

#include <algorithm>
#include <numeric>

namespace sluice::placement {
namespace {

/// Experts routed by one search, summed over batches and tried moves: about 0.3 seconds on one
/// core.
constexpr long kBudget = 40'000'000;
constexpr int kTokensForLocality = 4096;

/// SplitMix64 (Steele, Lea, Flood 2014): the standard library's distributions differ between
/// implementations, and decisions must not.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  size_t below(size_t limit) { return next() % limit; }
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

private:
  uint64_t state;
};

class TokenSource {
public:
  explicit TokenSource(const PlacementRequest &request) : traces(request.traces) {
    double sum = 0;
    for (const RoutingTrace &trace : traces)
      cumulative.push_back(sum += trace.weight);
  }
  std::span<const uint16_t> draw(Random &random) const {
    double at = random.unit() * cumulative.back();
    size_t t = std::upper_bound(cumulative.begin(), cumulative.end(), at) - cumulative.begin();
    const RoutingTrace &trace = traces[std::min(t, traces.size() - 1)];
    size_t token = random.below(trace.ids.size() / trace.topK);
    return {trace.ids.data() + token * trace.topK, static_cast<size_t>(trace.topK)};
  }

private:
  const std::vector<RoutingTrace> &traces;
  std::vector<double> cumulative;
};

/// One batch's part of the score. Counts are integers and most moves leave the largest one alone,
/// so the share of devices that have it guides the search over the plateaus.
double batchScore(const ReplicaRouter &router, const std::vector<int> &active,
                  std::span<int32_t> workspace) {
  int largest = router.route(active, workspace);
  auto counts = router.deviceCounts(workspace);
  auto full = std::count(counts.begin(), counts.end(), largest);
  return largest + static_cast<double>(full) / static_cast<double>(counts.size() + 1);
}

class ActivationSearch {
public:
  ActivationSearch(Arrangement &arrangement, const BatchSet &batches,
                   const LoadSearchOptions &options, uint64_t seed)
      : held(arrangement.held), counts(arrangement.counts), batches(batches), options(options),
        random(seed), devices(static_cast<int>(held.size())) {
    long routed = 0;
    for (const std::vector<int> &active : batches.active)
      routed += static_cast<long>(active.size());
    tries = std::clamp<long>(kBudget / std::max(routed, 1L), 50, 20'000);
    // What the batches from b on cost at least: lets a bad move be dropped early.
    rest.assign(batches.active.size() + 1, 0.0);
    for (size_t b = batches.active.size(); b-- > 0;) {
      auto distinct = static_cast<int>(batches.active[b].size());
      rest[b] = rest[b + 1] + (distinct + devices - 1) / devices;
    }
  }

  void run() {
    int occupied = 0;
    for (const std::vector<int> &list : held)
      occupied += !list.empty();
    if (occupied < 2 || batches.active.empty())
      return;
    current = score(1e300);
    for (long t = 0; t < tries; ++t)
      (random.below(4) == 0) ? tryReplacement() : trySwap();
  }

private:
  double migration() const {
    return options.initial && options.migrationCost > 0
               ? options.migrationCost *
                     movedCopies(*options.initial, toPlacement({held, counts})) *
                     static_cast<double>(batches.active.size())
               : 0.0;
  }
  /// Sum over batches plus migration, or anything above `limit` once that is certain.
  double score(double limit) {
    router.bind(toPlacement({held, counts}));
    workspace.resize(router.workspaceSize());
    double sum = migration();
    size_t b = 0;
    for (; b < batches.active.size() && sum + rest[b] <= limit; ++b)
      sum += batchScore(router, batches.active[b], workspace);
    return sum + rest[b];
  }
  bool holds(int device, int expert) const {
    return std::find(held[device].begin(), held[device].end(), expert) != held[device].end();
  }
  /// Whether `device` may take a copy of `expert` while the one on `from` (-1: none) leaves.
  bool allowed(int expert, int device, int from, int copies) const {
    if (holds(device, expert))
      return false;
    if (options.devicesPerNode == 0)
      return true;
    int per = options.devicesPerNode, nodes = (devices + per - 1) / per;
    if (copies > nodes)
      return true;
    int first = device / per * per, last = std::min(first + per, devices);
    for (int d = first; d < last; ++d)
      if (d != from && holds(d, expert))
        return false;
    return true;
  }

  void trySwap() {
    int a = static_cast<int>(random.below(devices)), b = static_cast<int>(random.below(devices));
    if (a == b || held[a].empty() || held[b].empty())
      return;
    int &e = held[a][random.below(held[a].size())], &h = held[b][random.below(held[b].size())];
    if (e == h || !allowed(e, b, a, counts[e]) || !allowed(h, a, b, counts[h]))
      return;
    std::swap(e, h);
    if (!accept())
      std::swap(e, h);
  }
  void tryReplacement() {
    int device = static_cast<int>(random.below(devices));
    if (held[device].empty())
      return;
    int &slot = held[device][random.below(held[device].size())];
    int from = slot, to = static_cast<int>(random.below(counts.size()));
    if (counts[from] == 1 || from == to || !allowed(to, device, -1, counts[to] + 1))
      return;
    slot = to;
    --counts[from];
    ++counts[to];
    if (accept())
      return;
    slot = from;
    ++counts[from];
    --counts[to];
  }
  /// Equal scores are taken: walking over a plateau finds its exits.
  bool accept() {
    double changed = score(current);
    if (changed > current)
      return false;
    current = changed;
    return true;
  }

  std::vector<std::vector<int>> &held;
  std::vector<int> &counts;
  const BatchSet &batches;
  const LoadSearchOptions &options;
  Random random;
  ReplicaRouter router;
  std::vector<int32_t> workspace;
  int devices;
  long tries = 0;
  std::vector<double> rest;
  double current = 0;
};

} // namespace

BatchSet drawBatches(const PlacementRequest &request, int perSize, uint64_t seed) {
  TokenSource source(request);
  Random random(seed);
  BatchSet set;
  for (int size : request.batchTokens) {
    for (int b = 0; b < perSize; ++b) {
      std::vector<char> wanted(request.experts, 0);
      for (int t = 0; t < size; ++t)
        for (uint16_t expert : source.draw(random))
          wanted[expert] = 1;
      std::vector<int> active;
      for (int e = 0; e < request.experts; ++e)
        if (wanted[e])
          active.push_back(e);
      set.active.push_back(std::move(active));
    }
  }
  return set;
}

ActivationFigures scoreActivation(const Placement &placement, const BatchSet &batches) {
  ReplicaRouter router(placement);
  std::vector<int32_t> workspace(router.workspaceSize());
  ActivationFigures figures;
  int devices = placement.devices();
  for (const std::vector<int> &active : batches.active) {
    figures.largest += router.route(active, workspace);
    figures.bound += (static_cast<int>(active.size()) + devices - 1) / devices;
  }
  double count = static_cast<double>(std::max<size_t>(batches.active.size(), 1));
  figures.largest /= count;
  figures.bound /= count;
  return figures;
}

std::vector<double> activationRates(const BatchSet &batches, int experts) {
  std::vector<double> rates(experts, 0.0);
  for (const std::vector<int> &active : batches.active)
    for (int expert : active)
      rates[expert] += 1.0 / static_cast<double>(batches.active.size());
  return rates;
}

double devicesPerToken(const PlacementRequest &request, const Placement &placement) {
  TokenSource source(request);
  Random random(request.seed);
  ReplicaRouter router(placement);
  std::vector<int32_t> workspace(router.workspaceSize());
  long sum = 0;
  std::vector<int> active;
  for (int t = 0; t < kTokensForLocality; ++t) {
    std::span<const uint16_t> ids = source.draw(random);
    active.assign(ids.begin(), ids.end());
    router.route(active, workspace);
    auto counts = router.deviceCounts(workspace);
    sum += std::count_if(counts.begin(), counts.end(), [](int count) { return count > 0; });
  }
  return static_cast<double>(sum) / kTokensForLocality;
}

void balanceActivation(Arrangement &arrangement, const BatchSet &batches,
                       const LoadSearchOptions &options, uint64_t seed) {
  ActivationSearch(arrangement, batches, options, seed).run();
}

Placement toPlacement(const Arrangement &arrangement) {
  Placement placement;
  placement.experts = static_cast<int>(arrangement.counts.size());
  placement.deviceBegin.push_back(0);
  for (const std::vector<int> &list : arrangement.held) {
    placement.slotExpert.insert(placement.slotExpert.end(), list.begin(), list.end());
    std::sort(placement.slotExpert.end() - static_cast<long>(list.size()),
              placement.slotExpert.end());
    placement.deviceBegin.push_back(placement.slots());
  }
  return placement;
}

} // namespace sluice::placement
