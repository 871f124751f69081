//===- Collectives.cpp - What all backends share ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Arguments are checked here, before a backend sees them: a wrong size must not become a wrong copy
// into another rank's memory. agree() is built from an all-gather of fixed-size records.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/Collectives.h"

#include "runtime/base/Format.h"
#include "runtime/collectives/CollectiveErrors.h"
#include "runtime/collectives/LocalCollectives.h"
#include "runtime/collectives/StatusRecord.h"
#include "runtime/collectives/mpi/MpiCommunicator.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace sluice {

namespace {

template <typename A, typename B> bool overlap(std::span<A> a, std::span<B> b) {
  const auto beginA = reinterpret_cast<uintptr_t>(a.data());
  const auto beginB = reinterpret_cast<uintptr_t>(b.data());
  return !a.empty() && !b.empty() && beginA < beginB + b.size_bytes() &&
         beginB < beginA + a.size_bytes();
}

/// Overlapping, and not at the one place that the operation allows.
template <typename A, typename B>
bool clash(std::span<A> a, std::span<B> b, const void *inPlaceBegin, size_t inPlaceSize) {
  return overlap(a, b) && !(b.data() == inPlaceBegin && b.size() == inPlaceSize);
}

Status overlapError(std::string_view label) {
  return invalidArgument(collectivePrefix(label) +
                         "source and result overlap; use separate buffers, or "
                         "exactly the range that works in place");
}

/// The sum of `counts`, which must be one per member and not exceed what addresses can reach.
Result<uint64_t> total(std::span<const uint64_t> counts, size_t members, std::string_view label) {
  if (counts.size() != members)
    return invalidArgument(
        collectivePrefix(label) +
        format("%zu counts for %zu members; give one per member", counts.size(), members));
  uint64_t sum = 0;
  for (uint64_t count : counts) {
    if (count > std::numeric_limits<uint64_t>::max() / 8 - sum)
      return invalidArgument(
          collectivePrefix(label) +
          format("a count of %llu is beyond any buffer", static_cast<unsigned long long>(count)));
    sum += count;
  }
  return sum;
}

Status expectSize(const char *what, uint64_t actual, uint64_t expected, std::string_view label) {
  if (actual == expected)
    return {};
  return invalidArgument(collectivePrefix(label) +
                         format("the %s has %llu elements, the counts say %llu", what,
                                static_cast<unsigned long long>(actual),
                                static_cast<unsigned long long>(expected)));
}

Status expectWithin(uint64_t bytes, uint64_t limit, std::string_view label) {
  if (bytes <= limit)
    return {};
  return invalidArgument(collectivePrefix(label) +
                         format("%llu bytes exceed the %llu that the group was created for",
                                static_cast<unsigned long long>(bytes),
                                static_cast<unsigned long long>(limit)));
}

uint64_t before(std::span<const uint64_t> counts, size_t index) {
  uint64_t sum = 0;
  for (size_t i = 0; i < index; ++i)
    sum += counts[i];
  return sum;
}

} // namespace

Group::Group(GroupOptions groupOptions, int rank) : options(std::move(groupOptions)) {
  assert(options.timeout && "createGroup() fills in the world's time-out");
  const auto found = std::find(options.ranks.begin(), options.ranks.end(), rank);
  assert(found != options.ranks.end() && "createGroup() checks that the rank is a member");
  ownIndex = found - options.ranks.begin();
}

Status Group::allReduceSum(std::span<const float> source, std::span<float> result,
                           std::string_view label) {
  SLUICE_RETURN_IF_ERROR(expectSize("result", result.size(), source.size(), label));
  SLUICE_RETURN_IF_ERROR(expectWithin(source.size_bytes(), options.maxBytes, label));
  if (clash(source, result, source.data(), source.size()))
    return overlapError(label);
  return doAllReduceSum(source.data(), result.data(), source.size(), label);
}

Status Group::reduceScatterSum(std::span<const float> source, std::span<const uint64_t> counts,
                               std::span<float> result, std::string_view label) {
  SLUICE_ASSIGN_OR_RETURN(const uint64_t elements, total(counts, size(), label));
  SLUICE_RETURN_IF_ERROR(expectSize("source", source.size(), elements, label));
  SLUICE_RETURN_IF_ERROR(expectSize("result", result.size(), counts[ownIndex], label));
  SLUICE_RETURN_IF_ERROR(expectWithin(source.size_bytes(), options.maxBytes, label));
  if (clash(source, result, source.data() + before(counts, ownIndex), counts[ownIndex]))
    return overlapError(label);
  return doReduceScatterSum(source.data(), counts, result.data(), label);
}

Status Group::allGather(std::span<const std::byte> source, std::span<const uint64_t> counts,
                        std::span<std::byte> result, std::string_view label) {
  SLUICE_ASSIGN_OR_RETURN(const uint64_t bytes, total(counts, size(), label));
  SLUICE_RETURN_IF_ERROR(expectSize("result", result.size(), bytes, label));
  SLUICE_RETURN_IF_ERROR(expectSize("source", source.size(), counts[ownIndex], label));
  SLUICE_RETURN_IF_ERROR(expectWithin(bytes, options.maxBytes, label));
  if (clash(result, source, result.data() + before(counts, ownIndex), counts[ownIndex]))
    return overlapError(label);
  return doAllGather(source.data(), counts, result.data(), label);
}

Status Group::allToAll(std::span<const std::byte> source, std::span<const uint64_t> sendCounts,
                       std::span<std::byte> result, std::span<const uint64_t> receiveCounts,
                       std::string_view label) {
  SLUICE_ASSIGN_OR_RETURN(const uint64_t sent, total(sendCounts, size(), label));
  SLUICE_ASSIGN_OR_RETURN(const uint64_t received, total(receiveCounts, size(), label));
  SLUICE_RETURN_IF_ERROR(expectSize("source", source.size(), sent, label));
  SLUICE_RETURN_IF_ERROR(expectSize("result", result.size(), received, label));
  SLUICE_RETURN_IF_ERROR(expectWithin(std::max(sent, received), options.maxBytes, label));
  if (sendCounts[ownIndex] != receiveCounts[ownIndex])
    return invalidArgument(collectivePrefix(label) +
                           format("sends %llu bytes to itself and expects %llu",
                                  static_cast<unsigned long long>(sendCounts[ownIndex]),
                                  static_cast<unsigned long long>(receiveCounts[ownIndex])));
  if (overlap(source, result))
    return overlapError(label);
  return doAllToAll(source.data(), sendCounts, result.data(), receiveCounts, label);
}

Status Group::broadcast(std::span<std::byte> data, size_t root, std::string_view label) {
  if (root >= size())
    return invalidArgument(collectivePrefix(label) +
                           format("root %zu is not one of the %zu members", root, size()));
  SLUICE_RETURN_IF_ERROR(expectWithin(data.size(), options.maxBytes, label));
  return doBroadcast(data.data(), data.size(), root, label);
}

Status Group::barrier(std::string_view label) { return doBarrier(label); }

Result<std::unique_ptr<Group>> Communicator::createGroup(GroupOptions options) {
  if (options.ranks.empty())
    return invalidArgument("a group needs at least one rank");
  std::vector<bool> seen(worldSize);
  for (int member : options.ranks) {
    if (member < 0 || member >= worldSize)
      return invalidArgument(
          format("rank %d of a group is outside the world of %d ranks", member, worldSize));
    if (seen[member])
      return invalidArgument(format("rank %d is in a group twice", member));
    seen[member] = true;
  }
  if (!seen[ownRank])
    return invalidArgument(format("rank %d creates a group that it is not in", ownRank));
  if (!options.timeout)
    options.timeout = worldTimeout;
  return doCreateGroup(std::move(options));
}

Status Communicator::agree(const Status &mine, std::string_view label,
                           std::optional<std::chrono::milliseconds> timeout) {
  if (!everyone) {
    GroupOptions options;
    for (int member = 0; member < worldSize; ++member)
      options.ranks.push_back(member);
    options.maxBytes = worldSize * sizeof(StatusRecord);
    options.timeout = timeout;
    reports.resize(options.maxBytes);
    SLUICE_ASSIGN_OR_RETURN(everyone, createGroup(std::move(options)));
  }
  const StatusRecord own(mine, ownRank);
  const std::vector<uint64_t> counts(worldSize, sizeof(StatusRecord));
  everyone->options.timeout = timeout.value_or(worldTimeout);
  SLUICE_RETURN_IF_ERROR(
      everyone->allGather(std::as_bytes(std::span(&own, 1)), counts, reports, label));
  for (int member = 0; member < worldSize; ++member) {
    const Status theirs = StatusRecord::read(reports, member).status();
    if (!theirs.isOk())
      return theirs.at({.rank = member}).withContext(format("rank %d", member));
  }
  return {};
}

Status CollectiveBackends::add(std::string name, Connect connect) {
  if (!backends.emplace(name, std::move(connect)).second)
    return invalidArgument("collectives backend \"" + name + "\" is registered twice");
  return {};
}

Result<Communicators> CollectiveBackends::connect(std::string_view name,
                                                  const CollectiveOptions &options) const {
  const auto found = backends.find(name);
  if (found == backends.end()) {
    std::string known;
    for (const std::string &other : names())
      known += (known.empty() ? "" : ", ") + other;
    return invalidArgument("collectives backend \"" + std::string(name) +
                           "\" is unknown; this build has: " + known);
  }
  if (options.worldSize < 1)
    return invalidArgument(format("a world of %d ranks; at least 1 is needed", options.worldSize));
  if (options.timeout <= std::chrono::milliseconds::zero())
    return invalidArgument(format("a time-out of %lld ms for collectives; it must be positive",
                                  static_cast<long long>(options.timeout.count())));
  return found->second(options);
}

std::vector<std::string> CollectiveBackends::names() const {
  std::vector<std::string> result;
  for (const auto &[name, connect] : backends)
    result.push_back(name);
  return result;
}

void registerAllCollectives(CollectiveBackends &backends) {
  const std::pair<const char *, CollectiveBackends::Connect> builtIn[] = {{"local", connectLocal},
                                                                          {"mpi", connectMpi}};
  for (const auto &[name, connect] : builtIn) {
    const Status added = backends.add(name, connect);
    assert(added.isOk() && "the names of the built-in backends are free in an empty registry");
    (void)added;
  }
}

} // namespace sluice
