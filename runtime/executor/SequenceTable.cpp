//===- SequenceTable.cpp - Live sequences and their KV pages ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A handle is generation * maxSeqs + slot; generations wrap before the handle would turn negative.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/SequenceTable.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice {

SequenceTable::SequenceTable(int maxSeqs, int maxSeqLen, int pageSize, int numPages, int numGroups)
    : pageSize(pageSize), pagesPerSeq((maxSeqLen - 1) / pageSize + 1),
      slots(static_cast<size_t>(maxSeqs)), groups(static_cast<size_t>(numGroups)),
      pageLists(static_cast<size_t>(maxSeqs) * static_cast<size_t>(pagesPerSeq)) {
  freeSlots.reserve(slots.size());
  for (int slot = maxSeqs; slot-- > 0;)
    freeSlots.push_back(slot);
  for (Group &group : groups) {
    group.freeList.reserve(static_cast<size_t>(numPages));
    for (int page = numPages; page-- > 0;)
      group.freeList.push_back(page);
  }
}

Result<SequenceId> SequenceTable::create() {
  if (freeSlots.empty())
    return resourceExhausted("all " + std::to_string(slots.size()) +
                             " sequences of the plan are in use; release one or compile with a "
                             "larger --max-seqs");
  int32_t slot = freeSlots.back();
  freeSlots.pop_back();
  auto best = std::max_element(groups.begin(), groups.end(), [](const Group &a, const Group &b) {
    return std::pair(a.freeList.size(), -a.alive) < std::pair(b.freeList.size(), -b.alive);
  });
  ++best->alive;
  Slot &entry = slots[static_cast<size_t>(slot)];
  entry.alive = true;
  entry.length = 0;
  entry.group = static_cast<int>(best - groups.begin());
  return entry.generation * static_cast<int32_t>(slots.size()) + slot;
}

void SequenceTable::release(SequenceId sequence) {
  int slot = slotOf(sequence);
  if (slot < 0)
    return;
  std::span<const int32_t> held = pages(slot);
  Slot &entry = slots[static_cast<size_t>(slot)];
  Group &group = groups[static_cast<size_t>(entry.group)];
  group.freeList.insert(group.freeList.end(), held.rbegin(), held.rend());
  --group.alive;
  const auto count = static_cast<int32_t>(slots.size());
  entry.generation = entry.generation >= INT32_MAX / count - 1 ? 0 : entry.generation + 1;
  entry.alive = false;
  entry.length = 0;
  freeSlots.push_back(slot);
}

int SequenceTable::slotOf(SequenceId sequence) const {
  if (sequence < 0)
    return -1;
  const auto count = static_cast<int32_t>(slots.size());
  int32_t slot = sequence % count;
  const Slot &entry = slots[static_cast<size_t>(slot)];
  return entry.alive && entry.generation == sequence / count ? slot : -1;
}

int SequenceTable::pagesToGrow(int slot, int tokens) const {
  return pagesOf(length(slot) + tokens) - pagesOf(length(slot));
}

void SequenceTable::grow(int slot, int tokens) {
  Slot &entry = slots[static_cast<size_t>(slot)];
  int held = pagesOf(entry.length), wanted = pagesOf(entry.length + tokens);
  assert(wanted <= pagesPerSeq && wanted - held <= freePages(entry.group));
  std::vector<int32_t> &freeList = groups[static_cast<size_t>(entry.group)].freeList;
  int32_t *list = pageLists.data() + static_cast<size_t>(slot) * static_cast<size_t>(pagesPerSeq);
  for (int i = held; i < wanted; ++i) {
    list[i] = freeList.back();
    freeList.pop_back();
  }
  entry.length += tokens;
}

std::span<const int32_t> SequenceTable::pages(int slot) const {
  return {pageLists.data() + static_cast<size_t>(slot) * static_cast<size_t>(pagesPerSeq),
          static_cast<size_t>(pagesOf(length(slot)))};
}

} // namespace sluice
