//===- Baselines.h - What placements are measured against -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The published EPLB rule (replicate the highest load per copy, then longest-first into packs of
// equal count) and the exact optimum of replica routing, by maximum flow, for tests and benchmarks.
// Both are written plainly and share nothing with the code under test.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_PLACEMENT_BASELINES_H
#define SLUICE_TEST_RUNTIME_PLACEMENT_BASELINES_H

#include "runtime/placement/Placement.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

namespace sluice::test {

/// EPLB's "global" placement; `slots` must be a multiple of `devices`. It may double copies on a
/// device, which checkPlacement refuses but deviceLoads and loadImbalance understand.
inline Placement eplb(std::span<const double> loads, int slots, int devices) {
  int experts = static_cast<int>(loads.size());
  std::vector<int> counts(experts, 1);
  for (int extra = experts; extra < slots; ++extra) {
    int best = 0;
    for (int e = 1; e < experts; ++e)
      if (loads[e] / counts[e] > loads[best] / counts[best])
        best = e;
    ++counts[best];
  }
  std::vector<int> copies;
  for (int e = 0; e < experts; ++e)
    copies.insert(copies.end(), counts[e], e);
  std::stable_sort(copies.begin(), copies.end(),
                   [&](int a, int b) { return loads[a] / counts[a] > loads[b] / counts[b]; });
  std::vector<std::vector<int>> packs(devices);
  std::vector<double> packLoad(devices, 0.0);
  for (int e : copies) {
    int best = -1;
    for (int d = 0; d < devices; ++d)
      if (static_cast<int>(packs[d].size()) < slots / devices &&
          (best < 0 || packLoad[d] < packLoad[best]))
        best = d;
    packs[best].push_back(e);
    packLoad[best] += loads[e] / counts[e];
  }
  Placement placement{experts, {}, {0}};
  for (std::vector<int> &pack : packs) {
    placement.slotExpert.insert(placement.slotExpert.end(), pack.begin(), pack.end());
    placement.deviceBegin.push_back(placement.slots());
  }
  return placement;
}

/// The smallest possible largest number of `active` experts on a device: the least capacity at
/// which every expert can be matched to a device with a copy of it (augmenting paths, one per
/// expert).
inline int optimalActivation(const Placement &placement, std::span<const int> active) {
  std::vector<std::vector<int>> hosts(placement.experts);
  for (int d = 0; d < placement.devices(); ++d)
    for (int e : placement.onDevice(d))
      if (std::find(hosts[e].begin(), hosts[e].end(), d) == hosts[e].end())
        hosts[e].push_back(d);
  for (int capacity = 0;; ++capacity) {
    std::vector<std::vector<int>> matched(placement.devices());
    bool all = true;
    for (int expert : active) {
      std::vector<char> seen(placement.devices(), 0);
      std::function<bool(int)> place = [&](int e) {
        for (int d : hosts[e]) {
          if (seen[d])
            continue;
          seen[d] = 1;
          if (static_cast<int>(matched[d].size()) < capacity) {
            matched[d].push_back(e);
            return true;
          }
          for (int &other : matched[d]) {
            if (place(other)) {
              other = e;
              return true;
            }
          }
        }
        return false;
      };
      all = all && place(expert);
    }
    if (all)
      return capacity;
  }
}

/// The smallest level such that every token fits on some device with a copy of its expert and no
/// device has more: bisection over augmenting-path maximum flows from experts to devices.
inline int optimalTokenLevel(const Placement &placement, std::span<const int> tokens) {
  int devices = placement.devices(), experts = placement.experts;
  std::vector<std::vector<char>> has(experts, std::vector<char>(devices, 0));
  for (int d = 0; d < devices; ++d)
    for (int e : placement.onDevice(d))
      has[e][d] = 1;
  auto fits = [&](int level) {
    std::vector<std::vector<int>> flow(experts, std::vector<int>(devices, 0));
    std::vector<int> room(devices, level);
    for (int e = 0; e < experts; ++e) {
      for (int rest = tokens[e]; rest > 0;) {
        std::vector<char> seen(devices, 0);
        std::function<int(int, int)> push = [&](int from, int amount) {
          for (int d = 0; d < devices; ++d) {
            if (!has[from][d] || seen[d])
              continue;
            seen[d] = 1;
            int sent = std::min(amount, room[d]);
            if (sent > 0) {
              room[d] -= sent;
              flow[from][d] += sent;
              return sent;
            }
            for (int other = 0; other < experts; ++other) {
              if (flow[other][d] == 0)
                continue;
              if (int moved = push(other, std::min(amount, flow[other][d]))) {
                flow[other][d] -= moved;
                flow[from][d] += moved;
                return moved;
              }
            }
          }
          return 0;
        };
        int sent = push(e, rest);
        if (sent == 0)
          return false;
        rest -= sent;
      }
    }
    return true;
  };
  int low = 0, high = std::accumulate(tokens.begin(), tokens.end(), 0);
  while (low < high) {
    int middle = (low + high) / 2;
    if (fits(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

} // namespace sluice::test

#endif // SLUICE_TEST_RUNTIME_PLACEMENT_BASELINES_H
