//===- LoadSearch.cpp - Balancing device loads over scenarios ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Speed comes from four choices. Scenario loads lie in short vectors, so that one evaluation costs
// a few dozen instructions. The power 16 is four squarings. J is linearised per scenario around the
// loads that the packing left, which makes a swap's gain a sum over the two devices it touches. And
// since load^16 is convex, the gradient bounds that gain from above: two dot products per copy rule
// out most pairs before they are evaluated.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/LoadSearch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sluice::placement {
namespace {

constexpr int kPower = 16;
/// What a drift costs: this times its size times the mean over devices of (load / mean)^2 for one
/// unit of drift. Between 2 and 8 the held-out scores are flat.
constexpr double kDriftShare = 4.5;
/// Copies turned into copies of other experts, at most; each is followed by swaps.
constexpr int kMaxReplacements = 24;
constexpr int kReplacementCandidates = 8;
/// Up to kManyDevices a heavy device tries to swap with every other one, beyond that with the
/// kPartners lightest: quadratic time would be felt there, and the others have little room.
constexpr size_t kManyDevices = 192;
constexpr size_t kPartners = 64;
/// Drifts are balanced on devices of at least this many slots. With fewer the heaviest copies
/// decide, and what little freedom there is belongs to them (144 devices with 288 slots lost 0.04).
constexpr int kSlotsForDrifts = 6;
/// Gains below this share of J are noise of single precision.
constexpr double kLeastGain = 1e-6;
/// Loads above this multiple of the bound are far from any optimum; cutting them there keeps their
/// sixteenth power inside single precision.
constexpr float kLargestLoad = 64.0f;

// A GNU vector type, understood by GCC and Clang on every target; it maps to SSE or NEON registers.
using Vec = float __attribute__((vector_size(16)));
constexpr int kLanes = 4;

template <int N> struct alignas(16) Loads { Vec v[N]; };

template <int N, int Q> class Search {
public:
  Search(Arrangement &arrangement, const ScenarioSet &set, const LoadSearchOptions &options)
      : held(arrangement.held), counts(arrangement.counts), scenarios(set.scenarios),
        drifts(set.drifts), options(options), devices(static_cast<int>(held.size())),
        experts(static_cast<int>(counts.size())) {
    nodes = options.devicesPerNode > 0
                ? (devices + options.devicesPerNode - 1) / options.devicesPerNode
                : 0;
    hosts.resize(experts);
    for (int d = 0; d < devices; ++d)
      for (int e : held[d])
        hosts[e].push_back(d);
    if (moveCost() > 0) {
      initialHosts.resize(experts);
      for (int d = 0; d < devices; ++d)
        for (int e : options.initial->onDevice(d))
          initialHosts[e].push_back(d);
    }
    scaleLoads();
  }

  double run() {
    // Devices of one slot only trade places, which gains nothing unless moves cost.
    bool trade = moveCost() > 0 || std::any_of(held.begin(), held.end(),
                                               [](const auto &list) { return list.size() > 1; });
    reweight();
    if (trade)
      swapUntilStuck();
    for (int r = 0; r < kMaxReplacements && replaceCopy(); ++r)
      if (trade)
        settle();
    return objective();
  }

private:
  double moveCost() const { return options.initial ? options.migrationCost : 0.0; }

  /// Loads per expert in units of max(mean, heaviest copy): heavy scenarios stay in range and the
  /// unit goes back into the weight.
  void scaleLoads() {
    Loads<N + Q> zero{};
    whole.assign(experts, zero);
    share.assign(experts, zero);
    load.assign(devices, zero);
    cost.assign(devices, 0.0);
    unit.resize(scenarios.size());
    for (size_t s = 0; s < scenarios.size(); ++s) {
      const std::vector<double> &loads = scenarios[s].loads;
      double bound = 1.0;
      for (int e = 0; e < experts; ++e)
        bound = std::max(bound, loads[e] * devices / experts / counts[e]);
      unit[s] = bound;
      for (int e = 0; e < experts; ++e)
        whole[e].v[s / kLanes][s % kLanes] =
            static_cast<float>(loads[e] * devices / experts / bound);
    }
    if constexpr (Q > 0)
      scaleDrifts();
    for (int e = 0; e < experts; ++e)
      updateShare(e);
    weight = zero;
  }

  /// A drift's cost is a plain sum of squares, so that its factor goes into the loads.
  void scaleDrifts() {
    for (size_t i = 0; i < drifts.size(); ++i) {
      double norm = 0;
      for (double d : drifts[i])
        norm += d * d / experts;
      double factor = std::sqrt(kDriftShare / std::sqrt(norm) / devices) * devices / experts;
      for (int e = 0; e < experts; ++e)
        whole[e].v[N + i / kLanes][i % kLanes] = static_cast<float>(drifts[i][e] * factor);
    }
  }

  void updateShare(int expert) {
    float part = 1.0f / static_cast<float>(counts[expert]);
    for (int i = 0; i < N + Q; ++i)
      share[expert].v[i] = whole[expert].v[i] * part;
  }

  static Vec power(Vec x) {
    Vec limit = Vec{} + kLargestLoad;
    x = x < limit ? x : limit;
    x *= x;
    x *= x;
    x *= x;
    return x * x;
  }
  double costOf(const Loads<N + Q> &at) const {
    Vec sum{};
    for (int i = 0; i < N; ++i)
      sum += power(at.v[i]) * weight.v[i];
    for (int i = N; i < N + Q; ++i)
      sum += at.v[i] * at.v[i];
    return static_cast<double>((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
  Loads<N + Q> gradient(int device) const {
    Loads<N + Q> result;
    for (int i = 0; i < N; ++i) {
      Vec x = load[device].v[i], x2 = x * x, x4 = x2 * x2, x8 = x4 * x4;
      result.v[i] = (x8 * x4) * (x2 * x) * weight.v[i] * static_cast<float>(kPower);
    }
    for (int i = N; i < N + Q; ++i)
      result.v[i] = load[device].v[i] + load[device].v[i];
    return result;
  }
  static float dot(const Loads<N + Q> &a, const Loads<N + Q> &b) {
    Vec sum{};
    for (int i = 0; i < N + Q; ++i)
      sum += a.v[i] * b.v[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  void addShare(int device, int expert, float times) {
    for (int i = 0; i < N + Q; ++i)
      load[device].v[i] += share[expert].v[i] * times;
  }

  double powerSum(size_t s) const {
    double sum = 0;
    for (int d = 0; d < devices; ++d)
      sum += std::pow(static_cast<double>(load[d].v[s / kLanes][s % kLanes]), kPower);
    return std::max(sum, 1e-30);
  }
  double objective() const {
    double total = 0;
    for (size_t s = 0; s < scenarios.size(); ++s)
      total += scenarios[s].weight * unit[s] * std::pow(powerSum(s), 1.0 / kPower);
    for (int d = 0; d < devices; ++d)
      for (int i = N; i < N + Q; ++i)
        for (int lane = 0; lane < kLanes; ++lane)
          total += static_cast<double>(load[d].v[i][lane]) * load[d].v[i][lane];
    return total + moveCost() * moved();
  }
  int moved() const {
    int count = 0;
    if (moveCost() > 0)
      for (int d = 0; d < devices; ++d)
        for (int e : held[d])
          count += !wasOn(e, d);
    return count;
  }

  /// Loads from scratch (sums of single precision drift), and weights such that a small change of a
  /// device's cost is the same change of J.
  void reweight() {
    for (int d = 0; d < devices; ++d) {
      load[d] = Loads<N + Q>{};
      for (int e : held[d])
        addShare(d, e, 1.0f);
    }
    total = 0;
    for (size_t s = 0; s < scenarios.size(); ++s) {
      double sum = powerSum(s), root = std::pow(sum, 1.0 / kPower);
      weight.v[s / kLanes][s % kLanes] =
          static_cast<float>(scenarios[s].weight * unit[s] * root / sum / kPower);
      total += scenarios[s].weight * unit[s] * root;
    }
    for (int d = 0; d < devices; ++d)
      cost[d] = costOf(load[d]);
    stale.assign(devices, 1);
  }

  bool isOn(int expert, int device) const {
    const std::vector<int> &list = hosts[expert];
    return std::find(list.begin(), list.end(), device) != list.end();
  }
  bool wasOn(int expert, int device) const {
    const std::vector<int> &list = initialHosts[expert];
    return std::find(list.begin(), list.end(), device) != list.end();
  }
  /// Whether a copy may go to `device`, its copy on `from` (-1: none) leaving at the same time.
  bool mayMove(int expert, int from, int device, int copies) const {
    if (hosts[expert].size() == 1 && hosts[expert].front() == from)
      return true;
    if (isOn(expert, device))
      return false;
    if (nodes == 0 || copies > nodes)
      return true;
    int node = device / options.devicesPerNode;
    return std::none_of(hosts[expert].begin(), hosts[expert].end(), [&](int host) {
      return host != from && host / options.devicesPerNode == node;
    });
  }

  void swapUntilStuck() {
    for (;;) {
      bool any = settle();
      stale.assign(devices, 1); // a device that was stuck may gain from what moved since
      if (!any)
        return;
    }
  }
  /// Swaps at the heaviest device that may still gain, until none may.
  bool settle() {
    bool any = false;
    for (;;) {
      int heaviest = -1;
      for (int d = 0; d < devices; ++d)
        if (stale[d] && (heaviest < 0 || cost[d] > cost[heaviest]))
          heaviest = d;
      if (heaviest < 0)
        return any;
      any |= swapFrom(heaviest);
    }
  }

  /// Makes the best swap of a copy on `a`; marks it as done when there is none.
  bool swapFrom(int a) {
    double best = -kLeastGain * total;
    int bestA = -1, bestB = -1, bestDevice = -1;
    Loads<N + Q> gradientA = gradient(a);
    lightFirst.resize(devices);
    std::iota(lightFirst.begin(), lightFirst.end(), 0);
    size_t partners = lightFirst.size() > kManyDevices ? kPartners : lightFirst.size();
    std::partial_sort(lightFirst.begin(), lightFirst.begin() + static_cast<long>(partners),
                      lightFirst.end(),
                      [&](int x, int y) { return cost[x] != cost[y] ? cost[x] < cost[y] : x < y; });
    lightFirst.resize(partners);
    double slack = 2 * moveCost(); // the most that moving back can save
    const std::vector<int> &onA = held[a];
    slopeA.resize(onA.size());
    for (int b : lightFirst) {
      const std::vector<int> &onB = held[b];
      if (b == a || onB.empty())
        continue;
      Loads<N + Q> slope = gradient(b);
      for (int i = 0; i < N + Q; ++i)
        slope.v[i] -= gradientA.v[i];
      slopeB.resize(onB.size());
      float steepest = -INFINITY;
      for (size_t j = 0; j < onB.size(); ++j) {
        slopeB[j] = dot(slope, share[onB[j]]);
        steepest = std::max(steepest, slopeB[j]);
      }
      for (size_t i = 0; i < onA.size(); ++i)
        slopeA[i] = dot(slope, share[onA[i]]);
      for (size_t i = 0; i < onA.size(); ++i) {
        int e = onA[i];
        if (slopeA[i] - steepest - slack >= best || !mayMove(e, a, b, counts[e]))
          continue;
        for (size_t j = 0; j < onB.size(); ++j) {
          int h = onB[j];
          if (slopeA[i] - slopeB[j] - slack >= best || h == e || !mayMove(h, b, a, counts[h]))
            continue;
          double change = swapChange(a, b, e, h);
          if (change < best) {
            best = change;
            bestA = static_cast<int>(i);
            bestB = static_cast<int>(j);
            bestDevice = b;
          }
        }
      }
    }
    stale[a] = 0;
    if (bestDevice < 0)
      return false;
    applySwap(a, bestA, bestDevice, bestB);
    return true;
  }

  double swapChange(int a, int b, int e, int h) const {
    Loads<N + Q> newA, newB;
    for (int i = 0; i < N + Q; ++i) {
      Vec difference = share[e].v[i] - share[h].v[i];
      newA.v[i] = load[a].v[i] - difference;
      newB.v[i] = load[b].v[i] + difference;
    }
    double change = costOf(newA) + costOf(newB) - cost[a] - cost[b];
    if (moveCost() > 0)
      change += moveCost() * (wasOn(e, a) - wasOn(e, b) + wasOn(h, b) - wasOn(h, a));
    return change;
  }

  void applySwap(int a, int indexA, int b, int indexB) {
    int e = held[a][indexA], h = held[b][indexB];
    std::swap(held[a][indexA], held[b][indexB]);
    *std::find(hosts[e].begin(), hosts[e].end(), a) = b;
    *std::find(hosts[h].begin(), hosts[h].end(), b) = a;
    addShare(a, e, -1.0f);
    addShare(a, h, 1.0f);
    addShare(b, h, -1.0f);
    addShare(b, e, 1.0f);
    for (int d : {a, b}) {
      cost[d] = costOf(load[d]);
      stale[d] = 1;
    }
  }

  /// Change of the cost of `device` when `expert`'s part on it goes from `from` to `to`.
  double partChange(int device, int expert, float from, float to) const {
    Loads<N + Q> changed;
    for (int i = 0; i < N + Q; ++i)
      changed.v[i] = load[device].v[i] + whole[expert].v[i] * (to - from);
    return costOf(changed) - cost[device];
  }

  /// Turns the copy whose loss hurts least into a copy of the expert that gains most, if that
  /// helps.
  bool replaceCopy() {
    std::vector<std::pair<double, int>> gains;
    for (int n = 0; n < experts; ++n) {
      double gain = 0;
      float copies = static_cast<float>(counts[n]);
      for (int d : hosts[n])
        gain += partChange(d, n, 1 / copies, 1 / (copies + 1));
      gains.push_back({gain, n});
    }
    size_t kept = std::min<size_t>(gains.size(), kReplacementCandidates);
    std::partial_sort(gains.begin(), gains.begin() + kept, gains.end());
    double best = -10 * kLeastGain * total;
    int bestOld = -1, bestNew = -1, bestDevice = -1;
    std::vector<double> losses;
    for (int o = 0; o < experts; ++o) {
      if (counts[o] == 1)
        continue;
      float copies = static_cast<float>(counts[o]);
      double loss = 0;
      losses.clear();
      for (int d : hosts[o]) {
        losses.push_back(partChange(d, o, 1 / copies, 1 / (copies - 1)));
        loss += losses.back();
      }
      for (size_t k = 0; k < kept; ++k) {
        auto [gain, n] = gains[k];
        if (n == o)
          continue;
        float more = static_cast<float>(counts[n] + 1);
        for (size_t q = 0; q < hosts[o].size(); ++q) {
          int device = hosts[o][q];
          if (!mayMove(n, -1, device, counts[n] + 1) || isOn(n, device))
            continue;
          Loads<N + Q> changed;
          for (int i = 0; i < N + Q; ++i)
            changed.v[i] = load[device].v[i] - share[o].v[i] + whole[n].v[i] * (1 / more);
          double change = loss - losses[q] + gain + costOf(changed) - cost[device];
          if (moveCost() > 0)
            change += moveCost() * (wasOn(o, device) - wasOn(n, device));
          if (change < best) {
            best = change;
            bestOld = o;
            bestNew = n;
            bestDevice = device;
          }
        }
      }
    }
    if (bestDevice < 0)
      return false;
    // Devices with both experts make the sum above an estimate, so the change is checked.
    double before = objective();
    exchange(bestDevice, bestOld, bestNew);
    if (objective() < before)
      return true;
    exchange(bestDevice, bestNew, bestOld);
    return false;
  }

  void exchange(int device, int from, int to) {
    *std::find(held[device].begin(), held[device].end(), from) = to;
    hosts[from].erase(std::find(hosts[from].begin(), hosts[from].end(), device));
    hosts[to].push_back(device);
    --counts[from];
    ++counts[to];
    updateShare(from);
    updateShare(to);
    reweight();
  }

  std::vector<std::vector<int>> &held;
  std::vector<int> &counts;
  const std::vector<Scenario> &scenarios;
  const std::vector<std::vector<double>> &drifts;
  const LoadSearchOptions &options;
  int devices, experts, nodes = 0;
  std::vector<std::vector<int>> hosts;        ///< [experts] devices with a copy
  std::vector<std::vector<int>> initialHosts; ///< the same in the initial placement
  std::vector<Loads<N + Q>> whole, share;     ///< [experts] load of the expert, of one copy
  std::vector<Loads<N + Q>> load;             ///< [devices]
  std::vector<double> cost;                   ///< [devices] weighted power sum
  std::vector<double> unit;                   ///< [scenarios] load of 1.0 in means
  std::vector<char> stale;                    ///< [devices] may gain from a swap
  std::vector<int> lightFirst;
  std::vector<float> slopeA, slopeB;
  Loads<N + Q> weight{};
  double total = 0; ///< J without migration when the weights were set
};

} // namespace

double balanceLoads(Arrangement &arrangement, const ScenarioSet &set,
                    const LoadSearchOptions &options) {
  static_assert(kMaxScenarios == 8 * kLanes && kMaxDrifts == kLanes);
  size_t slots = 0, count = set.scenarios.size();
  for (const std::vector<int> &list : arrangement.held)
    slots += list.size();
  bool withDrifts = !set.drifts.empty() && slots >= kSlotsForDrifts * arrangement.held.size();
  if (count <= 1 * kLanes)
    return withDrifts ? Search<1, 1>(arrangement, set, options).run()
                      : Search<1, 0>(arrangement, set, options).run();
  if (count <= 2 * kLanes)
    return withDrifts ? Search<2, 1>(arrangement, set, options).run()
                      : Search<2, 0>(arrangement, set, options).run();
  if (count <= 4 * kLanes)
    return withDrifts ? Search<4, 1>(arrangement, set, options).run()
                      : Search<4, 0>(arrangement, set, options).run();
  return withDrifts ? Search<8, 1>(arrangement, set, options).run()
                    : Search<8, 0>(arrangement, set, options).run();
}

} // namespace sluice::placement
