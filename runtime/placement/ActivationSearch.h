//===- ActivationSearch.h - Placing for few activated experts ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The local search of the decode objective. Batches are drawn from token-level traces, so that
// experts which fire together are kept apart without a model of their dependence, and a placement
// is scored by what the step will do: ReplicaRouter's largest number of activated experts per
// device, averaged over the batches.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_ACTIVATIONSEARCH_H
#define SLUICE_RUNTIME_PLACEMENT_ACTIVATIONSEARCH_H

#include "runtime/placement/LoadSearch.h"

namespace sluice::placement {

/// The distinct experts of every drawn batch.
struct BatchSet {
  std::vector<std::vector<int>> active; ///< [batches] ascending ids
};

/// Draws `perSize` batches of every size; every token comes from a random place of a random trace
/// (by weight), as in a decode batch of unrelated sequences.
BatchSet drawBatches(const PlacementRequest &request, int perSize, uint64_t seed);

struct ActivationFigures {
  double largest = 0; ///< mean over batches of the largest count on a device
  double bound = 0;   ///< mean over batches of ceil(activated / devices)
};
ActivationFigures scoreActivation(const Placement &placement, const BatchSet &batches);

/// Probability that an expert is in a batch, averaged over the batches.
std::vector<double> activationRates(const BatchSet &batches, int experts);

/// Mean number of distinct devices that serve one token, over tokens drawn from the traces and
/// routed alone.
double devicesPerToken(const PlacementRequest &request, const Placement &placement);

/// Improves `arrangement` by random swaps and copies turned into others, within a fixed budget of
/// routed experts; a move that doubles an expert on a device or avoidably on a node is not tried.
void balanceActivation(Arrangement &arrangement, const BatchSet &batches,
                       const LoadSearchOptions &options, uint64_t seed);

/// The arrangement as a placement, ids ascending inside a device.
Placement toPlacement(const Arrangement &arrangement);

} // namespace sluice::placement

#endif // SLUICE_RUNTIME_PLACEMENT_ACTIVATIONSEARCH_H
