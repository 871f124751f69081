//===- SequenceTable.h - Live sequences and their KV pages ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The KV cache is a pool of pages of `pageSize` tokens that all layers number alike; a sequence
// owns a list of pages and takes another one when its tokens outgrow them. Everything is sized for
// the worst case when the table is made, so that nothing is allocated later. Handles carry a
// generation: one that was released does not name the sequence that took its place. Data parallel
// groups have pools of their own, and a sequence stays in the group that it was given.
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
  /// `maxSeqs` of all groups together, `numPages` of each.
  SequenceTable(int maxSeqs, int maxSeqLen, int pageSize, int numPages, int numGroups = 1);

  /// An empty sequence in the group with the most free pages; of equals, in the one with the fewest
  /// sequences, then the first: a rule of the calls so far alone, so that every process of a plan
  /// decides alike. kResourceExhausted when maxSeqs are alive.
  Result<SequenceId> create();
  /// Gives its pages back; unknown handles are ignored.
  void release(SequenceId sequence);

  /// The slot of a live sequence, in [0, maxSeqs), or -1.
  int slotOf(SequenceId sequence) const;
  int length(int slot) const { return slots[static_cast<size_t>(slot)].length; }
  int numGroups() const { return static_cast<int>(groups.size()); }
  int groupOf(int slot) const { return slots[static_cast<size_t>(slot)].group; }
  int freePages(int group) const {
    return static_cast<int>(groups[static_cast<size_t>(group)].freeList.size());
  }
  /// Pages that `tokens` more tokens would take from the pool.
  int pagesToGrow(int slot, int tokens) const;
  /// Appends `tokens` tokens; the caller has checked maxSeqLen and the group's pages.
  void grow(int slot, int tokens);
  /// The pages of a sequence in the order of its tokens.
  std::span<const int32_t> pages(int slot) const;

private:
  struct Slot {
    int length = 0;
    int group = 0;
    int32_t generation = 0;
    bool alive = false;
  };
  struct Group {
    int alive = 0;
    std::vector<int32_t> freeList; ///< a stack; the lowest page on top at first
  };
  int pagesOf(int tokens) const { return (tokens + pageSize - 1) / pageSize; }

  int pageSize, pagesPerSeq;
  std::vector<Slot> slots;
  std::vector<Group> groups;
  std::vector<int32_t> freeSlots; ///< a stack; the lowest number on top at first
  std::vector<int32_t> pageLists; ///< [maxSeqs, pagesPerSeq]
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_SEQUENCETABLE_H
