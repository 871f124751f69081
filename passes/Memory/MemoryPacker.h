//===- MemoryPacker.h - Offsets for buffers with lifetimes ----------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Packs buffers that are live over an interval of program positions into one arena, so that no two
// which are live at the same position share bytes (dynamic storage allocation, NP-hard in general).
// No position can do with less than what is live there, which bounds every packing from below.
// Transformer programs repeat one small pattern, for which placing large buffers first into the
// tightest gap nearly always meets the bound; a few orderings are tried because each has its bad
// cases, and a bounded search finishes small ones exactly.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_MEMORY_MEMORYPACKER_H
#define SLUICE_PASSES_MEMORY_MEMORYPACKER_H

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

/// A buffer: `bytes` at every position in [first, last].
struct LiveInterval {
  int64_t first = 0, last = 0; ///< positions, last >= first
  int64_t bytes = 0;           ///< at least 1
};

/// Where the buffers lie.
struct MemoryPacking {
  std::vector<int64_t> offsets; ///< of each interval, a multiple of the alignment
  int64_t arenaBytes = 0;       ///< end of the last buffer, rounded up to the alignment
  int64_t liveBytes = 0;        ///< most bytes live at one position: a lower bound of arenaBytes
  bool isOptimal = false;       ///< no packing is smaller (proved by the bound or by search)
};

/// Deterministic: equal intervals give equal packings. Stateless but for its options; safe to
/// share.
class MemoryPacker {
public:
  /// `alignment` is a power of two; sizes are rounded up to it, in the packing and in the bound.
  explicit MemoryPacker(int64_t alignment = 256) : alignment(alignment) {}

  /// Placement steps that the exact search may take when no ordering meets the bound. It proves
  /// optimality of about eight buffers, and costs some 20 ms where it does not end.
  static constexpr int64_t kSearchSteps = 100'000;

  /// Packs; O(n log n + n * live) for each ordering. Sizes must add up to less than 2^62.
  MemoryPacking pack(std::span<const LiveInterval> intervals) const;

private:
  int64_t alignment;
};

} // namespace sluice

#endif // SLUICE_PASSES_MEMORY_MEMORYPACKER_H
