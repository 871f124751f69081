//===- Placement.h - Which expert every slot of every device holds ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A placement is the map from physical slots to experts that the partition pass, the weight packer
// and the routers agree on. The slots of a device are contiguous, which makes the map of a
// placement with equal slot counts the `physical_to_logical_map` of other serving systems as it
// stands.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_PLACEMENT_H
#define SLUICE_RUNTIME_PLACEMENT_PLACEMENT_H

#include "sluice/status.h"

#include <span>
#include <vector>

namespace sluice {

/// The largest placement accepted: sizes beyond it are a mistake in the request, not a machine.
inline constexpr int kMaxPlacementSlots = 1 << 20;

/// The experts of one layer on the slots of its devices. A value type; const access is thread-safe.
struct Placement {
  int experts = 0;
  /// [slots] the expert in every slot, ascending inside a device.
  std::vector<int> slotExpert;
  /// [devices + 1] the slots of device d are deviceBegin[d] .. deviceBegin[d + 1] - 1. A device
  /// may have none.
  std::vector<int> deviceBegin;

  int devices() const { return deviceBegin.empty() ? 0 : static_cast<int>(deviceBegin.size()) - 1; }
  int slots() const { return static_cast<int>(slotExpert.size()); }
  std::span<const int> onDevice(int device) const {
    return {slotExpert.data() + deviceBegin[device], slotExpert.data() + deviceBegin[device + 1]};
  }
  /// [experts] how many copies of every expert there are.
  std::vector<int> replicaCounts() const;

  bool operator==(const Placement &) const = default;
};

/// Checks that the device ranges cover the slots, every id is an expert, every expert has a slot
/// and no device holds two copies of one expert. kInvalidArgument otherwise.
Status checkPlacement(const Placement &placement);

/// [devices] load of every device when each expert's load is split evenly over its copies.
/// `expertLoads` has one entry per expert; the placement must have passed checkPlacement.
std::vector<double> deviceLoads(const Placement &placement, std::span<const double> expertLoads);

/// The heaviest device's load over the mean load, with the even split; 1 for a layer without load.
double loadImbalance(const Placement &placement, std::span<const double> expertLoads);

/// Copies that `to` has on a device where `from` has none: the expert weights to be moved. Both
/// placements must be over the same devices and experts.
int movedCopies(const Placement &from, const Placement &to);

} // namespace sluice

#endif // SLUICE_RUNTIME_PLACEMENT_PLACEMENT_H
