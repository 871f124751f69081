//===- Faults.cpp - Cases in which the last rank fails ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What is checked is that every other rank gets kAborted, in the pending operation and at once in
// every later one, with a text that names the culprit. How long that takes is checked by the test's
// own time limit only: a hang is the failure.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/collectives/Conformance.h"

#include "runtime/base/Format.h"

namespace sluice::conformance {

namespace {

Result<std::unique_ptr<Group>> makeGroup(Communicator &world, int members,
                                         std::optional<std::chrono::milliseconds> timeout = {}) {
  GroupOptions options{.ranks = {}, .maxBytes = 1 << 20, .timeout = timeout};
  for (int rank = 0; rank < members; ++rank)
    options.ranks.push_back(rank);
  return world.createGroup(std::move(options));
}

bool isLast(const Communicator &world) { return world.rank() == world.size() - 1; }

bool names(const Status &status, const std::string &text) {
  return status.message().find(text) != std::string_view::npos;
}

/// `heard` and all that follows must be kAborted, and `heard` must contain `text`.
std::string expectBroken(Communicator &world, Group &group, const Status &heard,
                         const std::string &text) {
  const std::string who = format("rank %d of %d: ", world.rank(), world.size());
  if (heard.code() != StatusCode::kAborted || !names(heard, text))
    return who + "expected aborted with \"" + text + "\", got " + heard.toString();
  const Status later = group.barrier("later");
  if (later.code() != StatusCode::kAborted || !names(later, "later"))
    return who + "a later operation gave " + later.toString();
  if (const Status health = world.health(); health.code() != StatusCode::kAborted)
    return who + "health is " + health.toString();
  const Status created = makeGroup(world, world.size()).status();
  if (created.code() != StatusCode::kAborted)
    return who + "creating a group gave " + created.toString();
  const Status agreed = world.agree({}, "agree");
  return agreed.code() == StatusCode::kAborted ? "" : who + "agree gave " + agreed.toString();
}

std::string lastRank(const Communicator &world) { return format("rank %d", world.size() - 1); }

/// The last rank may fail as soon as it has all it needs, while others still wait for each other.
std::string toldEarly(Communicator &world, const Status &heard) {
  return heard.code() == StatusCode::kAborted && names(heard, lastRank(world) + " failed")
             ? ""
             : "before the failure: " + heard.toString();
}

#define MAKE_GROUP(name, ...)                                                                      \
  Result<std::unique_ptr<Group>> name##Made = makeGroup(world, __VA_ARGS__);                       \
  if (!name##Made.isOk())                                                                          \
    return toldEarly(world, name##Made.status());                                                  \
  Group &name = **name##Made

std::string reports(Communicator &world, void (*)()) {
  MAKE_GROUP(group, world.size());
  if (isLast(world))
    world.abort(ioError("the disk is on fire"));
  std::vector<float> values(100'000, 1.0f);
  return expectBroken(world, group, group.allReduceSum(values, values, "sum"),
                      lastRank(world) + " failed: input/output error: the disk is on fire");
}

// A wait without a time-out still ends when someone fails.
std::string reportsToIdlers(Communicator &world, void (*)()) {
  MAKE_GROUP(group, world.size(), kNoTimeout);
  if (isLast(world))
    world.abort(ioError("gone"));
  return expectBroken(world, group, group.barrier("idle"), lastRank(world) + " failed");
}

// Groups without the failing rank break as well: a plan cannot go on without it.
std::string reportsToOtherGroups(Communicator &world, void (*)()) {
  MAKE_GROUP(everyone, world.size());
  Result<std::unique_ptr<Group>> others = Status(StatusCode::kNotFound, "not a member");
  if (!isLast(world))
    others = makeGroup(world, world.size() - 1);
  if (const Status ready = everyone.barrier("ready"); !ready.isOk())
    return toldEarly(world, ready);
  if (isLast(world)) {
    world.abort(ioError("gone"));
    return expectBroken(world, everyone, everyone.barrier("mine"), "gone");
  }
  Status heard = others.status();
  while (heard.isOk())
    heard = (*others)->barrier("theirs");
  if (!others.isOk())
    return toldEarly(world, heard);
  return expectBroken(world, **others, heard, lastRank(world) + " failed");
}

std::string isSilent(Communicator &world, void (*hold)()) {
  MAKE_GROUP(group, world.size(), kFaultTimeout);
  std::vector<float> values(100'000, 1.0f);
  if (isLast(world)) {
    hold();
    // Late, it learns at once that the others have given up.
    const Status heard = group.allReduceSum(values, values, "sum");
    return heard.code() == StatusCode::kAborted ? "" : "the late rank got " + heard.toString();
  }
  return expectBroken(
      world, group, group.allReduceSum(values, values, "sum"),
      format("%d did not take part within the time-out of 1.00 s", world.size() - 1));
}

std::string leaves(Communicator &world, void (*)()) {
  MAKE_GROUP(group, world.size());
  if (isLast(world))
    return {};
  std::vector<std::byte> data(9);
  return expectBroken(world, group, group.broadcast(data, world.size() - 1, "news"),
                      lastRank(world) + " has left the world");
}

// Only the list of sizes of the last rank is wrong.
std::string disagrees(Communicator &world, void (*)()) {
  MAKE_GROUP(group, world.size());
  std::vector<float> values(isLast(world) ? 5000 : 4000, 1.0f);
  const Status heard = group.allReduceSum(values, values, "sum");
  if (heard.code() != StatusCode::kInternal && heard.code() != StatusCode::kAborted)
    return format("rank %d: sizes differ, got ", world.rank()) + heard.toString();
  const Status later = group.barrier("later");
  return later.code() == StatusCode::kAborted ? "" : "later operation gave " + later.toString();
}

} // namespace

std::span<const Fault> faults() {
  static constexpr Fault list[] = {
      {"Reports", reports},
      {"ReportsToIdlers", reportsToIdlers},
      {"ReportsToOtherGroups", reportsToOtherGroups},
      {"IsSilent", isSilent},
      {"Leaves", leaves},
      {"Disagrees", disagrees},
  };
  return list;
}

} // namespace sluice::conformance
