//===- MemoryPacker.cpp - Offsets for buffers with lifetimes ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// First the neighbours of every interval (those live at a common position) are listed by one sweep;
// all else works on these lists. An ordering is turned into a packing by placing one interval after
// the other into the tightest gap between its placed neighbours. The exact search relies on a fact
// of such packings: take an optimal packing and place its intervals again in the order of their
// offsets, each as low as it goes; by induction none ends up higher. So some order with lowest-gap
// placement is optimal, and branch and bound over orders finds it.
//
//===----------------------------------------------------------------------===//
#include "passes/Memory/MemoryPacker.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <numeric>
#include <utility>

namespace sluice {
namespace {

enum class Gap { Tightest, Lowest };

class Problem {
public:
  Problem(std::span<const LiveInterval> intervals, int64_t alignment) : intervals(intervals) {
    for (const LiveInterval &interval : intervals) {
      assert(interval.bytes >= 1 && interval.first <= interval.last && "not a live interval");
      sizes.push_back((interval.bytes + alignment - 1) / alignment * alignment);
    }
    sweep();
  }

  size_t count() const { return intervals.size(); }
  int64_t size(size_t i) const { return sizes[i]; }
  int64_t length(size_t i) const { return intervals[i].last - intervals[i].first + 1; }
  int64_t begin(size_t i) const { return intervals[i].first; }
  int64_t bound() const { return liveBytes; }

  /// Offset for interval `i` among its neighbours that have one (others are -1).
  int64_t place(size_t i, const std::vector<int64_t> &offsets, Gap gap) {
    occupied.clear();
    for (uint32_t other : neighbours[i])
      if (offsets[other] >= 0)
        occupied.emplace_back(offsets[other], offsets[other] + sizes[other]);
    std::sort(occupied.begin(), occupied.end());
    int64_t end = 0, best = -1, bestRoom = 0;
    for (auto [from, to] : occupied) {
      int64_t room = from - end;
      if (room >= sizes[i] && (best < 0 || room < bestRoom)) {
        best = end;
        bestRoom = room;
        if (gap == Gap::Lowest)
          return best;
      }
      end = std::max(end, to);
    }
    return best >= 0 ? best : end;
  }

  /// Places all in that order; returns the height.
  int64_t placeAll(const std::vector<uint32_t> &order, Gap gap, std::vector<int64_t> &offsets) {
    offsets.assign(count(), -1);
    int64_t height = 0;
    for (uint32_t i : order) {
      offsets[i] = place(i, offsets, gap);
      height = std::max(height, offsets[i] + sizes[i]);
    }
    return height;
  }

private:
  /// Finds neighbours and the bound in one pass over the positions where intervals begin.
  void sweep() {
    neighbours.resize(count());
    std::vector<uint32_t> byBegin(count());
    std::iota(byBegin.begin(), byBegin.end(), 0);
    std::stable_sort(byBegin.begin(), byBegin.end(),
                     [&](uint32_t a, uint32_t b) { return begin(a) < begin(b); });
    std::vector<uint32_t> live;
    int64_t bytes = 0;
    for (uint32_t next : byBegin) {
      std::erase_if(live, [&](uint32_t old) {
        bool ended = intervals[old].last < begin(next);
        bytes -= ended ? sizes[old] : 0;
        return ended;
      });
      for (uint32_t other : live) {
        neighbours[next].push_back(other);
        neighbours[other].push_back(next);
      }
      live.push_back(next);
      bytes += sizes[next];
      liveBytes = std::max(liveBytes, bytes);
    }
  }

  std::span<const LiveInterval> intervals;
  std::vector<int64_t> sizes;
  std::vector<std::vector<uint32_t>> neighbours;
  std::vector<std::pair<int64_t, int64_t>> occupied;
  int64_t liveBytes = 0;
};

/// Branch and bound over placement orders, starting from a known packing.
class Search {
public:
  Search(Problem &problem, MemoryPacking &best) : problem(problem), best(best) {}

  void run() {
    order.resize(problem.count());
    std::iota(order.begin(), order.end(), 0);
    // Large ones first: good packings early prune the rest.
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return problem.size(a) > problem.size(b); });
    offsets.assign(problem.count(), -1);
    bool finished = extend(0, 0);
    best.isOptimal |= finished;
  }

private:
  /// Returns whether the subtree was searched to its end.
  bool extend(size_t placed, int64_t height) {
    if (placed == order.size()) {
      best.arenaBytes = height;
      best.offsets = offsets;
      return true;
    }
    for (uint32_t i : order) {
      if (offsets[i] >= 0)
        continue;
      if (++steps > MemoryPacker::kSearchSteps)
        return false;
      offsets[i] = problem.place(i, offsets, Gap::Lowest);
      int64_t newHeight = std::max(height, offsets[i] + problem.size(i));
      bool finished = newHeight >= best.arenaBytes || extend(placed + 1, newHeight);
      offsets[i] = -1;
      if (!finished)
        return false;
      if (best.arenaBytes == problem.bound())
        return true;
    }
    return true;
  }

  Problem &problem;
  MemoryPacking &best;
  std::vector<uint32_t> order;
  std::vector<int64_t> offsets;
  int64_t steps = 0;
};

} // namespace

MemoryPacking MemoryPacker::pack(std::span<const LiveInterval> intervals) const {
  Problem problem(intervals, alignment);
  MemoryPacking best;
  best.liveBytes = problem.bound();
  if (intervals.empty()) {
    best.isOptimal = true;
    return best;
  }

  using Less = std::function<bool(uint32_t, uint32_t)>;
  auto area = [&](uint32_t i) { return double(problem.size(i)) * double(problem.length(i)); };
  const Less orderings[] = {
      [&](uint32_t a, uint32_t b) {
        return std::pair(-problem.size(a), -problem.length(a)) <
               std::pair(-problem.size(b), -problem.length(b));
      },
      [&](uint32_t a, uint32_t b) {
        return std::pair(-problem.length(a), -problem.size(a)) <
               std::pair(-problem.length(b), -problem.size(b));
      },
      [&](uint32_t a, uint32_t b) { return area(a) > area(b); },
      [&](uint32_t a, uint32_t b) {
        return std::pair(problem.begin(a), -problem.size(a)) <
               std::pair(problem.begin(b), -problem.size(b));
      },
  };
  std::vector<uint32_t> order(intervals.size());
  std::vector<int64_t> offsets;
  for (const Less &less : orderings) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), less);
    for (Gap gap : {Gap::Tightest, Gap::Lowest}) {
      int64_t height = problem.placeAll(order, gap, offsets);
      if (best.offsets.empty() || height < best.arenaBytes) {
        best.arenaBytes = height;
        best.offsets = offsets;
      }
      if (best.arenaBytes == best.liveBytes) {
        best.isOptimal = true;
        return best;
      }
    }
  }
  Search(problem, best).run();
  best.isOptimal |= best.arenaBytes == best.liveBytes;
  return best;
}

} // namespace sluice
