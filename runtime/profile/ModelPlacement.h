//===- ModelPlacement.h - Placing every layer of a model --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// From profiles to one placement per decoder layer: what sluice-place prints, the placement pass
// writes into the IR and an online balancer would apply.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PROFILE_MODELPLACEMENT_H
#define SLUICE_RUNTIME_PROFILE_MODELPLACEMENT_H

#include "runtime/placement/PlacementSolver.h"
#include "runtime/profile/Profile.h"

#include <optional>

namespace sluice {

struct ModelPlacementRequest {
  int devices = 0;
  int slots = 0; ///< per layer, over all devices
  int devicesPerNode = 0;
  std::vector<int> slotLimits; ///< [devices] or empty
  PlacementObjective objective = PlacementObjective::kTokens;
  std::vector<int> batchTokens = {8, 32, 128}; ///< decode
  /// One per decoder layer, or empty: the placement in force.
  std::vector<Placement> initial;
  double migrationCost = 0; ///< see PlacementRequest
  int threads = 0;          ///< layers are solved side by side; 0 = one per hardware thread
};

struct ModelPlacement {
  std::vector<PlacementDecision> layers; ///< one per decoder layer
  /// Layers without a token in any profile: round robin, or the initial placement where there is
  /// one, and no figures.
  std::vector<bool> dense;
  /// Means over the layers that are not dense.
  double imbalance = 1, imbalanceBound = 1, activatedExperts = 0, devicesPerToken = 0;
  int movedCopies = 0; ///< over all layers
};

/// Solves every layer. Every window of a profile is one sample, the windows of one profile counting
/// as much together as those of another. Decode uses the profiles' ids where there are any. The
/// result does not depend on `threads`. Errors: profiles of different models, a count of initial
/// layers that is not the model's, and those of PlacementSolver::solve with the layer's number.
Result<ModelPlacement> placeModel(std::span<const Profile> profiles,
                                  std::span<const std::string> names,
                                  const ModelPlacementRequest &request);

} // namespace sluice

#endif // SLUICE_RUNTIME_PROFILE_MODELPLACEMENT_H
