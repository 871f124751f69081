//===- PlacementSolver.h - Placing and replicating experts ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Decides, for one MoE layer, which experts are replicated and which device holds which copy. One
// measured profile is easy to balance and says little about the next hour of traffic, so the solver
// takes any number of profiles or windows as samples and balances all of them at once; the freedom
// that fitting a single one would waste goes into holding up on traffic it has not seen. For
// decode, where a device pays for the distinct experts it touches, it places by token-level traces
// instead. The algorithm, its reasons and measurements are in docs/placement.md.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_PLACEMENTSOLVER_H
#define SLUICE_RUNTIME_PLACEMENT_PLACEMENTSOLVER_H

#include "runtime/placement/Placement.h"

#include <cstdint>
#include <optional>

namespace sluice {

/// What a good placement makes small.
enum class PlacementObjective {
  kTokens,           ///< prefill: tokens on the fullest device, copies sharing evenly
  kActivatedExperts, ///< decode: distinct experts on the fullest device, one copy per batch
};

/// Expert loads of the layer in one profile or window. Only their proportions matter.
struct LoadSample {
  std::vector<double> loads; ///< [experts] tokens (or any load), finite and not negative
  double weight = 1;         ///< how much this traffic counts, positive
};

/// The experts that tokens of one kind of traffic chose in the layer.
struct RoutingTrace {
  int topK = 0;
  std::vector<uint16_t> ids; ///< [tokens, topK] distinct ids below `experts` in every row
  double weight = 1;         ///< share of this traffic in a mixed batch, positive
};

struct PlacementRequest {
  int experts = 0;
  int slots = 0;   ///< over all devices; at least `experts`, at most `experts` per device
  int devices = 0; ///< any number; slots that do not divide go to the first devices
  /// Devices that share a node (consecutive), or 0 for a flat system. With nodes, copies of an
  /// expert go to different nodes as long as there are nodes without one, so that most tokens find
  /// a copy in their own node. The last node may be smaller.
  int devicesPerNode = 0;
  /// [devices] the most slots a device has memory for; empty for no limits.
  std::vector<int> slotLimits;
  PlacementObjective objective = PlacementObjective::kTokens;
  /// kTokens needs at least one; kActivatedExperts uses them only where there are no traces.
  /// Samples without any load say nothing and are skipped; when all are, every expert counts alike.
  std::vector<LoadSample> samples;
  /// kActivatedExperts: token-level traces, one per kind of traffic.
  std::vector<RoutingTrace> traces;
  /// kActivatedExperts: tokens per batch, each size counting alike.
  std::vector<int> batchTokens = {8, 32, 128};
  /// kActivatedExperts without traces: experts per token.
  int topK = 0;
  /// The placement in force, over the same experts, devices and slots per device.
  std::optional<Placement> initial;
  /// With `initial`: what moving one copy must gain, in units of the objective (mean over samples
  /// of max/mean load, or of the largest activated count). 0 finds the best placement and then
  /// names devices so that few copies move.
  double migrationCost = 0;
  uint64_t seed = 1; ///< of the batches drawn from traces
};

struct PlacementDecision {
  Placement placement;
  std::vector<int> replicas; ///< [experts] copies
  /// Predicted for every sample given (1 where a sample has no load): max/mean device load.
  std::vector<double> imbalance;
  /// What no placement with these replica counts undercuts, per sample: the larger of the mean load
  /// (1) and the heaviest single copy over the mean.
  std::vector<double> imbalanceBound;
  double meanImbalance = 1;      ///< mean of `imbalance` by weight
  double meanImbalanceBound = 1; ///< mean of `imbalanceBound` by weight
  double nodeImbalance = 1;      ///< like meanImbalance over nodes; 1 in a flat system
  /// With traces: mean over drawn batches of the largest number of activated experts on a device
  /// under ReplicaRouter, and of its lower bound ceil(activated / devices); else 0.
  double activatedExperts = 0;
  double activatedBound = 0;
  double devicesPerToken = 0; ///< with traces: mean distinct devices that serve a token; else 0
  int movedCopies = 0;        ///< with an initial placement
};

/// Places one layer per call. Deterministic: the same request gives the same decision on every
/// machine with IEEE floats. Stateless, so one solver may serve several threads.
class PlacementSolver {
public:
  /// Errors. kInvalidArgument: sizes below one or above kMaxPlacementSlots, fewer slots than
  /// experts, more than `devices` copies of an expert needed to fill the slots, a sample of another
  /// number of experts (a profile of another model), loads or weights that are negative or not
  /// finite, no samples, ids or top_k outside the layer, an initial placement of another shape.
  /// kResourceExhausted: the slot limits leave less room than `slots`, or force doubled copies.
  Result<PlacementDecision> solve(const PlacementRequest &request) const;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_PLACEMENT_PLACEMENTSOLVER_H
