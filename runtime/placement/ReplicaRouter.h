//===- ReplicaRouter.h - Which copy of an expert serves which token ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Chooses copies inside the step, the same on every rank, because every rank knows all expert ids
// of the batch. The rule depends on the phase:
//
// Decode. A device pays for every distinct expert whose weights it streams, not for tokens, so that
// splitting an expert's tokens over its copies costs instead of helping: all tokens of one batch
// that chose an expert go to one of its copies. Which one is a semi-matching of activated experts
// to devices with the smallest largest degree. The router starts greedily (METRO's rule: experts
// with fewest choices first, each to the candidate with the fewest) and then shortens the fullest
// devices along augmenting paths, as in Harvey, Ladner, Lovasz, Tamir, "Semi-matchings for
// bipartite graphs" (2003): when no path leads from a fullest device to one with at least two
// experts less, the largest count is the smallest possible.
//
// Prefill. Tokens are what is paid, so that every expert's tokens are poured over its copies up to
// a common level, the copies on light devices taking more. Pouring expert by expert until the
// levels rest minimises the sum of squares of the device loads.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PLACEMENT_REPLICAROUTER_H
#define SLUICE_RUNTIME_PLACEMENT_REPLICAROUTER_H

#include "runtime/placement/Placement.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

/// Chooses copies for the batches of one layer. Immutable once made: any number of threads may
/// share one router when each brings its own workspace. Calls allocate nothing, keep no state in
/// the router and depend on nothing but their arguments, so that ranks which route separately
/// agree.
class ReplicaRouter {
public:
  /// A router that serves nothing, to be bound.
  ReplicaRouter() = default;
  /// `placement` must have passed checkPlacement. Slots are numbered as in it.
  explicit ReplicaRouter(const Placement &placement) { bind(placement); }

  /// A router for `groups` expert groups with equal numbers of slots: `slots` holds the expert of
  /// every slot, group after group, -1 for an empty one. Slots are numbered by their index in it.
  /// kInvalidArgument: sizes that do not divide, an id outside -1 .. experts - 1, an expert without
  /// a slot, or two copies of one expert in a group.
  static Result<ReplicaRouter> create(std::span<const int32_t> slots, int groups, int experts);

  /// Makes the router serve `placement`; reuses its memory where that suffices.
  void bind(const Placement &placement);

  int experts() const { return numExperts; }
  int devices() const { return numDevices; }
  /// How many int32 a workspace needs. Its content need not be set and has no meaning to a caller
  /// but through the functions below.
  size_t workspaceSize() const {
    return 4 * static_cast<size_t>(numExperts) + 6 * static_cast<size_t>(numDevices) +
           hostDevice.size();
  }

  /// Chooses the slot that serves every (token, expert) pair of a batch.
  ///   ids         [pairs] expert ids, token after token; one outside the layer (padding) gets -1
  ///   decode      the decode rule, else the prefill rule
  ///   slotOfPair  [pairs] receives global slot numbers; may not overlap `ids`
  ///   workspace   at least workspaceSize()
  /// Time O(pairs + experts + slots), in decode plus O(slots) for each shortened device.
  void assign(std::span<const int32_t> ids, bool decode, std::span<int32_t> slotOfPair,
              std::span<int32_t> workspace) const;

  /// Routes the distinct experts `active` by the decode rule (ids below experts(); repeated ids
  /// count once). Returns the largest number of activated experts on a device, which no other
  /// choice of copies undercuts.
  int route(std::span<const int32_t> active, std::span<int32_t> workspace) const;

  /// [devices] after route(): activated experts per device. After assign() in prefill: tokens.
  std::span<const int32_t> deviceCounts(std::span<const int32_t> workspace) const {
    return workspace.subspan(0, numDevices);
  }
  /// After route(): the slot that serves `expert`; -1 when it was not activated.
  int slotOf(int expert, std::span<const int32_t> workspace) const {
    int32_t host = workspace[numDevices + static_cast<size_t>(expert)];
    return host < 0 ? -1 : hostSlot[host];
  }

private:
  struct Views;
  Views views(std::span<int32_t> workspace) const;
  void index(std::span<const int32_t> slots, std::span<const int> deviceBegin);
  int routeWanted(Views &w) const;
  void move(Views &w, int expert, int host) const;
  bool shorten(Views &w, int from) const;
  void pour(Views &w) const;
  void pourExpert(Views &w, int expert) const;

  int numExperts = 0;
  int numDevices = 0;
  std::vector<int32_t> hostBegin;  ///< [experts + 1] copies of an expert in the two arrays below
  std::vector<int32_t> hostDevice; ///< [copies] ascending per expert
  std::vector<int32_t> hostSlot;   ///< [copies]
  std::vector<int32_t> byCopies;   ///< [experts] ids by ascending number of copies
  int firstReplicated = 0;         ///< index into byCopies of the first with two copies
};

} // namespace sluice

#endif // SLUICE_RUNTIME_PLACEMENT_REPLICAROUTER_H
