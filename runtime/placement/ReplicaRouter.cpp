//===- ReplicaRouter.cpp - Which copy of an expert serves which token -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/ReplicaRouter.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <string>

namespace sluice {
namespace {

/// Rounds of pouring at most. Loads rest after two or three; the last tokens are not worth more.
constexpr int kPours = 4;

} // namespace

/// Arrays inside a workspace. `counts` and `choice` come first: deviceCounts() and slotOf() know.
struct ReplicaRouter::Views {
  int32_t *counts;   ///< [devices] activated experts; in prefill tokens
  int32_t *choice;   ///< [experts] index into hostDevice, or -1; in prefill the host being filled
  int32_t *wanted;   ///< [experts] activated in this batch; in prefill tokens
  int32_t *next;     ///< [experts] chains of the experts with a choice, per device ...
  int32_t *previous; ///< [experts]
  int32_t *first;    ///< [devices] ... the only ones that a path can move
  int32_t *queue, *cameByExpert, *cameToHost, *visited; ///< [devices] breadth-first search
  int32_t *part;                                        ///< [copies] prefill: tokens of a copy
};

ReplicaRouter::Views ReplicaRouter::views(std::span<int32_t> workspace) const {
  assert(workspace.size() >= workspaceSize());
  int32_t *at = workspace.data();
  auto take = [&](int count) {
    int32_t *result = at;
    at += count;
    return result;
  };
  Views w;
  w.counts = take(numDevices);
  w.choice = take(numExperts);
  w.wanted = take(numExperts);
  w.next = take(numExperts);
  w.previous = take(numExperts);
  w.first = take(numDevices);
  w.queue = take(numDevices);
  w.cameByExpert = take(numDevices);
  w.cameToHost = take(numDevices);
  w.visited = take(numDevices);
  w.part = at;
  return w;
}

Result<ReplicaRouter> ReplicaRouter::create(std::span<const int32_t> slots, int groups,
                                            int experts) {
  auto number = [](auto value) { return std::to_string(value); };
  if (groups < 1 || experts < 1 || slots.empty() || slots.size() > size_t(kMaxPlacementSlots) ||
      slots.size() % groups != 0)
    return invalidArgument("placement: " + number(slots.size()) + " slots for " + number(groups) +
                           " groups and " + number(experts) +
                           " experts; the groups need equal numbers of slots, at most " +
                           number(kMaxPlacementSlots) + " together");
  int perGroup = static_cast<int>(slots.size()) / groups;
  std::vector<int> begin(groups + 1);
  for (int g = 0; g <= groups; ++g)
    begin[g] = g * perGroup;
  std::vector<int> lastGroup(experts, -1);
  for (size_t s = 0; s < slots.size(); ++s) {
    int expert = slots[s], group = static_cast<int>(s) / perGroup;
    if (expert == -1)
      continue;
    if (expert < 0 || expert >= experts)
      return invalidArgument("placement: slot " + number(s) + " holds expert " + number(expert) +
                             " of a layer with " + number(experts) +
                             " experts; -1 marks an empty "
                             "slot");
    if (lastGroup[expert] == group)
      return invalidArgument("placement: group " + number(group) + " holds two copies of expert " +
                             number(expert) + "; a second copy in one group balances nothing");
    lastGroup[expert] = group;
  }
  for (int e = 0; e < experts; ++e)
    if (lastGroup[e] < 0)
      return invalidArgument("placement: expert " + number(e) + " has no slot");
  ReplicaRouter router;
  router.numExperts = experts;
  router.index(slots, begin);
  return router;
}

void ReplicaRouter::bind(const Placement &placement) {
  numExperts = placement.experts;
  index(placement.slotExpert, placement.deviceBegin);
}

void ReplicaRouter::index(std::span<const int32_t> slots, std::span<const int> deviceBegin) {
  numDevices = static_cast<int>(deviceBegin.size()) - 1;
  hostBegin.assign(numExperts + 1, 0);
  for (int32_t expert : slots)
    if (expert >= 0)
      ++hostBegin[expert + 1];
  std::partial_sum(hostBegin.begin(), hostBegin.end(), hostBegin.begin());
  hostDevice.resize(hostBegin.back());
  hostSlot.resize(hostBegin.back());
  byCopies.assign(numExperts, 0); // here: how many copies of an expert are entered
  for (int device = 0; device < numDevices; ++device) {
    for (int slot = deviceBegin[device]; slot < deviceBegin[device + 1]; ++slot) {
      if (slots[slot] < 0)
        continue;
      int host = hostBegin[slots[slot]] + byCopies[slots[slot]]++;
      hostDevice[host] = device;
      hostSlot[host] = slot;
    }
  }
  std::iota(byCopies.begin(), byCopies.end(), 0);
  auto copies = [&](int e) { return hostBegin[e + 1] - hostBegin[e]; };
  std::sort(byCopies.begin(), byCopies.end(),
            [&](int a, int b) { return copies(a) != copies(b) ? copies(a) < copies(b) : a < b; });
  firstReplicated = static_cast<int>(
      std::partition_point(byCopies.begin(), byCopies.end(), [&](int e) { return copies(e) < 2; }) -
      byCopies.begin());
}

void ReplicaRouter::assign(std::span<const int32_t> ids, bool decode, std::span<int32_t> slotOfPair,
                           std::span<int32_t> workspace) const {
  assert(ids.size() == slotOfPair.size());
  Views w = views(workspace);
  auto isExpert = [&](int32_t id) { return id >= 0 && id < numExperts; };
  std::fill_n(w.wanted, numExperts, 0);
  for (int32_t id : ids)
    if (isExpert(id))
      ++w.wanted[id];
  if (decode) {
    routeWanted(w);
    for (size_t i = 0; i < ids.size(); ++i)
      slotOfPair[i] = isExpert(ids[i]) ? hostSlot[w.choice[ids[i]]] : -1;
    return;
  }
  pour(w);
  for (int e = 0; e < numExperts; ++e)
    w.choice[e] = hostBegin[e];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!isExpert(ids[i])) {
      slotOfPair[i] = -1;
      continue;
    }
    int32_t &host = w.choice[ids[i]]; // an expert's tokens fill its copies one after the other
    while (w.part[host] == 0)
      ++host;
    --w.part[host];
    slotOfPair[i] = hostSlot[host];
  }
}

int ReplicaRouter::route(std::span<const int32_t> active, std::span<int32_t> workspace) const {
  Views w = views(workspace);
  std::fill_n(w.wanted, numExperts, 0);
  for (int32_t expert : active)
    w.wanted[expert] = 1;
  return routeWanted(w);
}

int ReplicaRouter::routeWanted(Views &w) const {
  std::fill_n(w.choice, numExperts, -1);
  std::fill_n(w.counts, numDevices, 0);
  std::fill_n(w.first, numDevices, -1);
  std::fill_n(w.visited, numDevices, 0);
  int distinct = 0;
  for (int expert : byCopies) {
    if (!w.wanted[expert])
      continue;
    ++distinct;
    int begin = hostBegin[expert], end = hostBegin[expert + 1];
    if (end - begin == 1) { // never moves again, so it stays out of the chains
      w.choice[expert] = begin;
      ++w.counts[hostDevice[begin]];
      continue;
    }
    int best = begin;
    for (int host = begin + 1; host < end; ++host)
      if (w.counts[hostDevice[host]] < w.counts[hostDevice[best]])
        best = host;
    move(w, expert, best);
  }
  // Each successful path takes one device off the largest count; the first fullest device that
  // cannot be shortened proves that count to be the smallest possible.
  int bound = (distinct + numDevices - 1) / numDevices;
  for (int visit = 1;; ++visit) {
    int fullest = static_cast<int>(std::max_element(w.counts, w.counts + numDevices) - w.counts);
    w.visited[fullest] = visit;
    if (w.counts[fullest] <= bound || !shorten(w, fullest))
      return w.counts[fullest];
  }
}

void ReplicaRouter::move(Views &w, int expert, int host) const {
  if (int old = w.choice[expert]; old >= 0) {
    --w.counts[hostDevice[old]];
    if (w.previous[expert] >= 0)
      w.next[w.previous[expert]] = w.next[expert];
    else
      w.first[hostDevice[old]] = w.next[expert];
    if (w.next[expert] >= 0)
      w.previous[w.next[expert]] = w.previous[expert];
  }
  w.choice[expert] = host;
  int device = hostDevice[host];
  ++w.counts[device];
  w.previous[expert] = -1;
  w.next[expert] = w.first[device];
  if (w.first[device] >= 0)
    w.previous[w.first[device]] = expert;
  w.first[device] = expert;
}

/// Moves one expert off `from` along a shortest path; visited[from] is the mark of this search.
bool ReplicaRouter::shorten(Views &w, int from) const {
  int limit = w.counts[from] - 2;
  int32_t visit = w.visited[from];
  int head = 0, tail = 0;
  w.queue[tail++] = from;
  while (head < tail) {
    int device = w.queue[head++];
    for (int expert = w.first[device]; expert >= 0; expert = w.next[expert]) {
      for (int host = hostBegin[expert]; host < hostBegin[expert + 1]; ++host) {
        int target = hostDevice[host];
        if (w.visited[target] == visit)
          continue;
        w.visited[target] = visit;
        w.cameByExpert[target] = expert;
        w.cameToHost[target] = host;
        if (w.counts[target] > limit) {
          w.queue[tail++] = target;
          continue;
        }
        for (int at = target; at != from;) {
          int mover = w.cameByExpert[at];
          int source = hostDevice[w.choice[mover]];
          move(w, mover, w.cameToHost[at]);
          at = source;
        }
        return true;
      }
    }
  }
  return false;
}

/// Splits wanted[] into part[], leaving counts[] at the tokens per device.
void ReplicaRouter::pour(Views &w) const {
  std::fill_n(w.counts, numDevices, 0);
  std::fill_n(w.part, hostDevice.size(), 0);
  for (int i = 0; i < firstReplicated; ++i) {
    int host = hostBegin[byCopies[i]];
    w.part[host] = w.wanted[byCopies[i]];
    w.counts[hostDevice[host]] += w.part[host];
  }
  for (int round = 0; round < kPours; ++round) {
    bool changed = false;
    for (int i = firstReplicated; i < numExperts; ++i) {
      int expert = byCopies[i];
      if (w.wanted[expert] == 0)
        continue;
      int begin = hostBegin[expert], end = hostBegin[expert + 1];
      // Loads without this expert; an expert whose copies are level already stays as it is.
      int32_t lowest = INT32_MAX, highest = 0;
      for (int host = begin; host < end; ++host) {
        int32_t load = w.counts[hostDevice[host]];
        lowest = std::min(lowest, load);
        if (w.part[host] > 0)
          highest = std::max(highest, load);
      }
      if (round > 0 && highest - lowest <= 1)
        continue;
      changed = true;
      for (int host = begin; host < end; ++host) {
        w.counts[hostDevice[host]] -= w.part[host];
        w.part[host] = 0;
      }
      pourExpert(w, expert);
    }
    if (!changed)
      return;
  }
}

/// Pours wanted[expert] tokens over its copies, the lightest device first, up to a common level.
void ReplicaRouter::pourExpert(Views &w, int expert) const {
  int begin = hostBegin[expert], end = hostBegin[expert + 1];
  // The level by bisection: the highest at which the room below it does not exceed the tokens.
  int64_t tokens = w.wanted[expert];
  int64_t low = 0, high = tokens;
  for (int host = begin; host < end; ++host)
    high = std::max<int64_t>(high, w.counts[hostDevice[host]] + tokens);
  while (low < high) {
    int64_t middle = low + (high - low + 1) / 2, room = 0;
    for (int host = begin; host < end; ++host)
      room += std::max<int64_t>(0, middle - w.counts[hostDevice[host]]);
    if (room <= tokens)
      low = middle;
    else
      high = middle - 1;
  }
  int64_t rest = tokens;
  for (int host = begin; host < end; ++host) {
    int32_t &load = w.counts[hostDevice[host]];
    auto part = static_cast<int32_t>(std::max<int64_t>(0, low - load));
    w.part[host] = part;
    load += part;
    rest -= part;
  }
  for (int host = begin; host < end && rest > 0; ++host) {
    int32_t &load = w.counts[hostDevice[host]];
    if (load > low)
      continue;
    ++w.part[host];
    ++load;
    --rest;
  }
}

} // namespace sluice
