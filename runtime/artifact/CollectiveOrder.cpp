//===- CollectiveOrder.cpp - Do all ranks meet in their collectives? --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A rank in a collective waits until all members of its list have come to the same one. So it is
// enough to let every rank walk to its next collective, compare it with what the first member to
// arrive there wants, and let a list go on when it is complete; who is still waiting in the end
// waits for ever. The order in which ranks walk does not matter: lists of waiting ranks never share
// a rank. The work is linear in the size of the plan.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/CollectiveOrder.h"

#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/StepAbi.h"

#include <map>
#include <string>
#include <vector>

namespace sluice::validation {
namespace {

class Rehearsal {
public:
  Rehearsal(const proto::Plan &plan, int bucket)
      : plan(plan), bucket(bucket), next(static_cast<size_t>(plan.ranks_size()), -1) {}

  Status run() {
    std::vector<int> walking;
    for (int rank = plan.ranks_size(); rank-- > 0;)
      walking.push_back(rank);
    while (!walking.empty()) {
      const int rank = walking.back();
      walking.pop_back();
      const proto::Collective *exchange = advance(rank);
      if (!exchange)
        continue;
      Meeting &meeting = meetings[{exchange->ranks().begin(), exchange->ranks().end()}];
      if (meeting.arrived == 0)
        meeting.first = rank;
      else
        SLUICE_RETURN_IF_ERROR(compare(meeting.first, rank));
      if (++meeting.arrived < exchange->ranks_size())
        continue;
      meeting.arrived = 0;
      walking.insert(walking.end(), exchange->ranks().begin(), exchange->ranks().end());
    }
    for (const auto &[members, meeting] : meetings)
      if (meeting.arrived > 0)
        return dataCorrupt(place(meeting.first) + " waits for ever: " +
                           std::to_string(members.size() - static_cast<size_t>(meeting.arrived)) +
                           " of its " + std::to_string(members.size()) + " ranks do not come");
    return Status::ok();
  }

private:
  struct Meeting {
    int arrived = 0;
    int first = 0; ///< the rank that came first
  };

  const proto::Bucket &program(int rank) const { return plan.ranks(rank).buckets(bucket); }
  const proto::Collective &current(int rank) const {
    return program(rank).commands(next[static_cast<size_t>(rank)]).collective();
  }

  /// Moves the rank to its next collective; null when it has finished.
  const proto::Collective *advance(int rank) {
    int &at = next[static_cast<size_t>(rank)];
    while (++at < program(rank).commands_size())
      if (program(rank).commands(at).has_collective())
        return &program(rank).commands(at).collective();
    return nullptr;
  }

  std::string place(int rank) const {
    return "rank " + std::to_string(rank) + " command " +
           std::to_string(next[static_cast<size_t>(rank)]) + " (" +
           quoteName(current(rank).label()) + ")";
  }

  bool countsTokens(int rank) const {
    for (const proto::IoBuffer &buffer : plan.ranks(rank).io())
      if (buffer.name() == abi::kIoGroupTokens)
        return current(rank).counts().offset() == buffer.offset();
    return false;
  }

  /// Two members of one list must want the same.
  Status compare(int a, int b) const {
    const proto::Collective &x = current(a), &y = current(b);
    const bool counted = x.counts().slab() != 0;
    const char *difference = nullptr;
    if (x.kind() != y.kind())
      difference = "kind";
    else if (x.label() != y.label())
      difference = "label";
    else if (x.element() != y.element())
      difference = "element";
    else if (x.root() != y.root())
      difference = "root";
    else if (counted != (y.counts().slab() != 0) || (counted && countsTokens(a) != countsTokens(b)))
      difference = "counts";
    else if (x.row_elements() != y.row_elements())
      difference = "row_elements";
    else if (!counted && x.source().bytes() != y.source().bytes())
      difference = "size of the source";
    return difference ? dataCorrupt(place(b) + " and " + place(a) + " meet, but differ in the " +
                                    difference)
                      : Status::ok();
  }

  const proto::Plan &plan;
  const int bucket;
  std::vector<int> next; ///< by rank: the command it is at
  std::map<std::vector<uint32_t>, Meeting> meetings;
};

} // namespace

Status checkCollectiveOrder(const proto::Plan &plan) {
  for (int i = 0; i < plan.ranks(0).buckets_size(); ++i)
    if (Status status = Rehearsal(plan, i).run(); !status.isOk())
      return status.withContext("bucket " + std::to_string(plan.ranks(0).buckets(i).tokens()));
  return Status::ok();
}

} // namespace sluice::validation
