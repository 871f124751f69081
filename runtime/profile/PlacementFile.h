//===- PlacementFile.h - Placements of a whole model on disk ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Placements leave as the files that serving systems load:
//   sglang  {"physical_to_logical_map": [layers][slots]}, slot s on device s / (slots / devices)
//   trtllm  moe_load_balancer yaml: num_slots, initial_global_assignments per layer,
//           layer_updates_per_iter 0
//   sluice  {"sluice_placement": 1, "experts", "layers": [[[expert, ...] per device] per layer]}
// The first two know only equal devices. When slots do not divide, the first slots % devices
// devices hold one more; the sglang file then carries "slots_per_device": [devices] beside the map,
// and the yaml is refused. Layers that route nothing (dense ones, or layers without a token in the
// profile) stay in the list, with slot s holding expert s % experts: loaders index by decoder
// layer, and nothing reads those rows.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PROFILE_PLACEMENTFILE_H
#define SLUICE_RUNTIME_PROFILE_PLACEMENTFILE_H

#include "runtime/placement/Placement.h"

#include <string>
#include <vector>

namespace sluice {

enum class PlacementFormat { kSglang, kTensorRtLlm, kSluice };

/// "sglang", "trtllm" or "sluice"; kInvalidArgument for another name.
Result<PlacementFormat> parsePlacementFormat(const std::string &name);

/// Slot s holds expert s % experts, on devices as equal as the rule above makes them; what dense
/// layers get. Needs experts <= slots, and devices of at most `experts` slots.
Placement roundRobinPlacement(int experts, int devices, int slots);

/// The text of a placement file; one placement per decoder layer, all over the same experts, slots
/// and devices. `dense` [layers] marks layers that trtllm leaves out. kInvalidArgument for trtllm
/// with slots that do not divide.
Result<std::string> formatPlacements(const std::vector<Placement> &layers,
                                     const std::vector<bool> &dense, PlacementFormat format);

/// Reads a file of the formats sglang or sluice. The map of an sglang file is cut into `devices`
/// parts by the rule above; a sluice file says itself. kDataCorrupt, with file and key, for
/// anything that is no placement of `experts` experts on `devices` devices.
Result<std::vector<Placement>> readPlacements(const std::string &path, int experts, int devices);

} // namespace sluice

#endif // SLUICE_RUNTIME_PROFILE_PLACEMENTFILE_H
