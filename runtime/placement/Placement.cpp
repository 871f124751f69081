//===- Placement.cpp - Checks and figures of placements ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/Placement.h"

#include <algorithm>
#include <numeric>
#include <string>

namespace sluice {

std::vector<int> Placement::replicaCounts() const {
  std::vector<int> counts(experts, 0);
  for (int expert : slotExpert)
    ++counts[expert];
  return counts;
}

Status checkPlacement(const Placement &placement) {
  const std::vector<int> &begin = placement.deviceBegin;
  if (placement.experts < 1 || begin.size() < 2 || begin.front() != 0 ||
      begin.back() != placement.slots() || !std::is_sorted(begin.begin(), begin.end()))
    return invalidArgument("placement: the device ranges must ascend from 0 to its " +
                           std::to_string(placement.slots()) + " slots and it needs experts");
  std::vector<int> lastDevice(placement.experts, -1);
  for (int device = 0; device < placement.devices(); ++device) {
    for (int expert : placement.onDevice(device)) {
      if (expert < 0 || expert >= placement.experts)
        return invalidArgument("placement: device " + std::to_string(device) + " holds expert " +
                               std::to_string(expert) + " of a layer with " +
                               std::to_string(placement.experts) + " experts");
      if (lastDevice[expert] == device)
        return invalidArgument("placement: device " + std::to_string(device) +
                               " holds two copies of expert " + std::to_string(expert) +
                               "; a second copy on one device balances nothing");
      lastDevice[expert] = device;
    }
  }
  for (int expert = 0; expert < placement.experts; ++expert)
    if (lastDevice[expert] < 0)
      return invalidArgument("placement: expert " + std::to_string(expert) + " has no slot");
  return Status::ok();
}

std::vector<double> deviceLoads(const Placement &placement, std::span<const double> expertLoads) {
  std::vector<int> counts = placement.replicaCounts();
  std::vector<double> loads(placement.devices(), 0.0);
  for (int device = 0; device < placement.devices(); ++device)
    for (int expert : placement.onDevice(device))
      loads[device] += expertLoads[expert] / counts[expert];
  return loads;
}

double loadImbalance(const Placement &placement, std::span<const double> expertLoads) {
  std::vector<double> loads = deviceLoads(placement, expertLoads);
  double total = std::accumulate(loads.begin(), loads.end(), 0.0);
  if (total <= 0)
    return 1.0;
  return *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / total;
}

int movedCopies(const Placement &from, const Placement &to) {
  int moved = 0;
  for (int device = 0; device < to.devices(); ++device) {
    std::span<const int> old = from.onDevice(device);
    for (int expert : to.onDevice(device))
      moved += std::find(old.begin(), old.end(), expert) == old.end();
  }
  return moved;
}

} // namespace sluice
