//===- Replication.h - Copies per expert and slots per device ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The two counting steps before the search: how many slots every device has, and how many copies
// every expert gets such that some arrangement without doubled copies exists.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_REPLICATION_H
#define SLUICE_RUNTIME_PLACEMENT_REPLICATION_H

#include "runtime/placement/PlacementSolver.h"

#include <vector>

namespace sluice::placement {

/// Slots per device: as equal as the limits allow, earlier devices first with what is left.
Result<std::vector<int>> distributeSlots(const PlacementRequest &request);

/// Copies per expert: one each, then always the expert with the highest load per copy (no more than
/// devices with a slot), flattened as far as needed for an arrangement without doubled copies.
/// kResourceExhausted when even equal counts have none.
Result<std::vector<int>> replicate(const std::vector<double> &loads,
                                   const std::vector<int> &slotsPerDevice);

/// Packs copies onto devices, heaviest first onto the least loaded device with a free slot and no
/// copy of the expert; with nodes, one without a copy in its node is preferred. Returns the experts
/// per device. `counts` must come from replicate() for the same slots.
std::vector<std::vector<int>> packCopies(const std::vector<double> &loads,
                                         const std::vector<int> &counts,
                                         const std::vector<int> &slotsPerDevice,
                                         int devicesPerNode);

} // namespace sluice::placement

#endif // SLUICE_RUNTIME_PLACEMENT_REPLICATION_H
