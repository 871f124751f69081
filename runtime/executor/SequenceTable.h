//===- SequenceTable.h - Live sequences and their KV pages ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The KV cache is a pool of pages of `pageSize` tokens that all layers number alike; a sequence
// owns a list of pages and takes another one when its tokens outgrow them. Everything is sized for
// the worst case when the table is made, so that nothing is allocated later. Handles carry a
// generation: one that was released does not name the sequence that took its place.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_SEQUENCETABLE_H
#define SLUICE_RUNTIME_EXECUTOR_SEQUENCETABLE_H

#include "sluice/engine.h"

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

/// Not thread-safe. All arguments of the constructor are positive.
class SequenceTable {
public:
  SequenceTable(int maxSeqs, int maxSeqLen, int pageSize, int numPages);

  /// An empty sequence; kResourceExhausted when maxSeqs are alive.
  Result<SequenceId> create();
  /// Gives its pages back; unknown handles are ignored.
  void release(SequenceId sequence);

  /// The slot of a live sequence, in [0, maxSeqs), or -1.
  int slotOf(SequenceId sequence) const;
  int length(int slot) const { return slots[static_cast<size_t>(slot)].length; }
  int freePages() const { return static_cast<int>(freeList.size()); }
  /// Pages that `tokens` more tokens would take from the pool.
  int pagesToGrow(int slot, int tokens) const;
  /// Appends `tokens` tokens; the caller has checked maxSeqLen and freePages().
  void grow(int slot, int tokens);
  /// The pages of a sequence in the order of its tokens.
  std::span<const int32_t> pages(int slot) const;

private:
  struct Slot {
    int length = 0;
    int32_t generation = 0;
    bool alive = false;
  };
  int pagesOf(int tokens) const { return (tokens + pageSize - 1) / pageSize; }

  int pageSize, pagesPerSeq;
  std::vector<Slot> slots;
  std::vector<int32_t> freeSlots, freeList; ///< stacks; the lowest number on top at first
  std::vector<int32_t> pageLists;           ///< [maxSeqs, pagesPerSeq]
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_SEQUENCETABLE_H
