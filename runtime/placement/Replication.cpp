//===- Replication.cpp - Copies per expert and slots per device -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/Replication.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <string>

namespace sluice::placement {
namespace {

/// Gale (1957) and Ryser (1957): copies can be spread without doubling if and only if, for every k,
/// the k largest counts together find room when a device takes at most k of them.
bool canBeSpread(const std::vector<int> &counts, const std::vector<int> &slotsPerDevice) {
  std::vector<int> descending = counts;
  std::sort(descending.begin(), descending.end(), std::greater<>());
  std::vector<int> devicesWith(counts.size() + 2, 0); // [k] devices with at least k slots
  for (int slots : slotsPerDevice)
    if (slots > static_cast<int>(counts.size()))
      return false;
    else
      ++devicesWith[slots];
  for (int k = static_cast<int>(counts.size()) - 1; k >= 1; --k)
    devicesWith[k] += devicesWith[k + 1];
  long copies = 0, room = 0;
  for (size_t k = 1; k <= descending.size(); ++k) {
    copies += descending[k - 1];
    room += devicesWith[k];
    if (copies > room)
      return false;
  }
  return true;
}

} // namespace

Result<std::vector<int>> distributeSlots(const PlacementRequest &request) {
  std::vector<int> limits = request.slotLimits;
  if (limits.empty())
    limits.assign(request.devices, request.slots);
  for (int &limit : limits)
    limit = std::min(limit, request.experts);
  long room = std::accumulate(limits.begin(), limits.end(), 0L);
  if (room < request.slots)
    return resourceExhausted("slot limits: the devices hold at most " + std::to_string(room) +
                             " of the " + std::to_string(request.slots) +
                             " slots asked for; ask for fewer slots or raise the limits");
  // The level up to which every device is filled, then one more for the first that can.
  int low = 0, high = request.slots;
  auto filled = [&](int level) {
    long sum = 0;
    for (int limit : limits)
      sum += std::min(limit, level);
    return sum;
  };
  while (low < high) {
    int middle = low + (high - low + 1) / 2;
    if (filled(middle) <= request.slots)
      low = middle;
    else
      high = middle - 1;
  }
  std::vector<int> slots(request.devices);
  long rest = request.slots - filled(low);
  for (int d = 0; d < request.devices; ++d) {
    slots[d] = std::min(limits[d], low);
    if (rest > 0 && limits[d] > low) {
      ++slots[d];
      --rest;
    }
  }
  return slots;
}

Result<std::vector<int>> replicate(const std::vector<double> &loads,
                                   const std::vector<int> &slotsPerDevice) {
  int experts = static_cast<int>(loads.size());
  int slots = std::accumulate(slotsPerDevice.begin(), slotsPerDevice.end(), 0);
  int hosts = static_cast<int>(std::count_if(slotsPerDevice.begin(), slotsPerDevice.end(),
                                             [](int count) { return count > 0; }));
  std::vector<int> counts(experts, 1);
  using Entry =
      std::pair<double, int>; // load per copy, minus the expert so that ties go to low ids
  std::priority_queue<Entry> queue;
  for (int e = 0; e < experts; ++e)
    if (hosts > 1)
      queue.push({loads[e], -e});
  for (int used = experts; used < slots && !queue.empty(); ++used) {
    int expert = -queue.top().second;
    queue.pop();
    if (++counts[expert] < hosts)
      queue.push({loads[expert] / counts[expert], -expert});
  }
  // Unequal limits can make the wish impossible. Flatter counts are majorised by steeper ones, so
  // moving copies from the most to the least copied expert ends at counts that work if any do.
  while (!canBeSpread(counts, slotsPerDevice)) {
    auto most = std::max_element(counts.begin(), counts.end());
    auto least = std::min_element(counts.begin(), counts.end());
    if (*most - *least < 2)
      return resourceExhausted(
          "slot limits: the " + std::to_string(slots) + " slots on " + std::to_string(hosts) +
          " devices cannot be filled without two copies of an expert on one device; ask for fewer "
          "slots or spread the limits");
    --*most;
    ++*least;
  }
  return counts;
}

std::vector<std::vector<int>> packCopies(const std::vector<double> &loads,
                                         const std::vector<int> &counts,
                                         const std::vector<int> &slotsPerDevice,
                                         int devicesPerNode) {
  int experts = static_cast<int>(loads.size());
  int devices = static_cast<int>(slotsPerDevice.size());
  std::vector<int> order(experts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return loads[a] / counts[a] > loads[b] / counts[b]; });

  std::vector<std::vector<int>> held(devices);
  std::vector<double> load(devices, 0.0);
  std::vector<int> chosen;
  auto sharesNode = [&](int device) {
    return devicesPerNode > 0 && std::any_of(chosen.begin(), chosen.end(), [&](int other) {
             return other / devicesPerNode == device / devicesPerNode;
           });
  };
  for (int expert : order) {
    chosen.clear();
    for (int copy = 0; copy < counts[expert]; ++copy) {
      int best = -1;
      bool bestShares = false;
      for (int d = 0; d < devices; ++d) {
        if (static_cast<int>(held[d].size()) >= slotsPerDevice[d] ||
            std::find(chosen.begin(), chosen.end(), d) != chosen.end())
          continue;
        bool shares = sharesNode(d);
        if (best < 0 || (shares == bestShares ? load[d] < load[best] : bestShares)) {
          best = d;
          bestShares = shares;
        }
      }
      if (best < 0)
        break;
      chosen.push_back(best);
    }
    if (static_cast<int>(chosen.size()) < counts[expert])
      break; // longest-first ran into a corner
    for (int d : chosen) {
      held[d].push_back(expert);
      load[d] += loads[expert] / counts[expert];
    }
    if (expert == order.back())
      return held;
  }

  // Experts with most copies first, each onto the devices with most free slots: this construction
  // succeeds whenever any does (Gale-Ryser). The search that follows restores the balance.
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return counts[a] > counts[b]; });
  for (std::vector<int> &list : held)
    list.clear();
  std::fill(load.begin(), load.end(), 0.0);
  std::vector<int> byRoom(devices);
  std::iota(byRoom.begin(), byRoom.end(), 0);
  for (int expert : order) {
    std::stable_sort(byRoom.begin(), byRoom.end(), [&](int a, int b) {
      int roomA = slotsPerDevice[a] - static_cast<int>(held[a].size());
      int roomB = slotsPerDevice[b] - static_cast<int>(held[b].size());
      return roomA != roomB ? roomA > roomB : load[a] < load[b];
    });
    for (int copy = 0; copy < counts[expert]; ++copy) {
      held[byRoom[copy]].push_back(expert);
      load[byRoom[copy]] += loads[expert] / counts[expert];
    }
  }
  return held;
}

} // namespace sluice::placement
