//===- MpiCommunicator.cpp - One rank per process, by MPI -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// MPI's own reductions may add in any order and differ from rank to rank and from release to
// release, so sums are done here. Every operation is one or two rounds in which each member sends a
// part to each other member: a reduction scatters parts to their owners, which add them in the
// order of the list; an all-reduce gathers the sums afterwards, or, when small and bound by
// latency, sends everything to everyone and adds it everywhere, in the same order and so with the
// same bits.
//
// A member that only sends (the root of a broadcast) may return before the others have come.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/mpi/MpiCommunicator.h"

#include "runtime/base/Format.h"
#include "runtime/collectives/CollectiveErrors.h"
#include "runtime/collectives/OrderedSum.h"
#include "runtime/collectives/mpi/MpiLoader.h"
#include "runtime/collectives/mpi/MpiWorld.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

namespace sluice {

namespace {

/// Up to here an all-reduce takes one round: sending all to all costs less than a second latency.
constexpr size_t kDirectElements = 4096;

/// What members of a new group tell each other.
struct Proposal {
  int32_t nextId;
  int32_t numRanks;
  uint64_t listHash;
  uint64_t maxBytes;
};

class MpiGroup final : public Group {
public:
  MpiGroup(GroupOptions groupOptions, MpiWorld &world)
      : Group(std::move(groupOptions), world.rank()), world(world) {
    const size_t elements = maxBytes() / sizeof(float);
    window = std::max((elements + size() - 1) / size(), std::min(elements, kDirectElements));
    scratch.resize((size() - 1) * window);
    parts.resize(size());
    offsets.resize(size());
  }

  /// Agrees with the other members on the id: the largest that is free with all of them.
  Status form(std::chrono::milliseconds creationTimeout) {
    uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    for (int member : ranks())
      hash = (hash ^ uint64_t(member)) * 0x100000001b3;
    const Proposal own = {.nextId = world.nextGroupId,
                          .numRanks = int32_t(size()),
                          .listHash = hash,
                          .maxBytes = maxBytes()};
    std::vector<Proposal> proposals(size(), own);
    SLUICE_RETURN_IF_ERROR(world.begin("create group", creationTimeout));
    for (size_t member = 0; member < size(); ++member)
      if (member != index()) {
        SLUICE_RETURN_IF_ERROR(world.receive(ranks()[member], MpiWorld::kGroupTag,
                                             &proposals[member], sizeof(Proposal)));
        SLUICE_RETURN_IF_ERROR(
            world.send(ranks()[member], MpiWorld::kGroupTag, &own, sizeof(Proposal)));
      }
    SLUICE_RETURN_IF_ERROR(world.wait());
    int32_t id = 0;
    for (size_t member = 0; member < size(); ++member) {
      const Proposal &theirs = proposals[member];
      id = std::max(id, theirs.nextId);
      if (theirs.numRanks == own.numRanks && theirs.listHash == own.listHash &&
          theirs.maxBytes == own.maxBytes)
        continue;
      const Status mismatch = internalError(
          collectivePrefix("create group") +
          format("ranks %d and %d want different groups; members of several common groups create "
                 "them in the same order",
                 world.rank(), ranks()[member]));
      world.fail(mismatch);
      return mismatch;
    }
    if (id >= world.maxTag())
      return resourceExhausted(format("more than %d groups; this MPI has no further tags", id));
    tag = id;
    world.nextGroupId = id + 1;
    return {};
  }

private:
  Status doAllReduceSum(const float *source, float *result, size_t count,
                        std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(world.begin(label, timeout()));
    if (count <= kDirectElements) {
      for (size_t member = 0; member < size(); ++member)
        offsets[member] = 0;
      SLUICE_RETURN_IF_ERROR(exchangeParts(source, [&](size_t) { return count; }));
      sumInOrder(parts, count, result);
      return {};
    }
    const auto bound = [&](size_t member) { return count * member / size(); };
    const auto length = [&](size_t member) { return bound(member + 1) - bound(member); };
    for (size_t member = 0; member < size(); ++member)
      offsets[member] = bound(member);
    SLUICE_RETURN_IF_ERROR(exchangeParts(source, length));
    float *own = result + bound(index());
    sumInOrder(parts, length(index()), own);
    return gather(reinterpret_cast<std::byte *>(own), reinterpret_cast<std::byte *>(result),
                  [&](size_t member) { return length(member) * sizeof(float); });
  }

  Status doReduceScatterSum(const float *source, std::span<const uint64_t> counts, float *result,
                            std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(world.begin(label, timeout()));
    uint64_t begin = 0;
    for (size_t member = 0; member < size(); ++member) {
      offsets[member] = begin;
      begin += counts[member];
    }
    // The scratch holds balanced parts at once; one large part takes several rounds.
    const uint64_t longest = *std::max_element(counts.begin(), counts.end());
    for (uint64_t done = 0; done < longest; done += window) {
      const auto length = [&](size_t member) -> size_t {
        return counts[member] > done ? std::min<uint64_t>(counts[member] - done, window) : 0;
      };
      SLUICE_RETURN_IF_ERROR(exchangeParts(source, length));
      sumInOrder(parts, length(index()), result + done);
      for (uint64_t &offset : offsets)
        offset += window;
    }
    return {};
  }

  Status doAllGather(const std::byte *source, std::span<const uint64_t> counts, std::byte *result,
                     std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(world.begin(label, timeout()));
    return gather(source, result, [&](size_t member) { return counts[member]; });
  }

  Status doAllToAll(const std::byte *source, std::span<const uint64_t> sendCounts,
                    std::byte *result, std::span<const uint64_t> receiveCounts,
                    std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(world.begin(label, timeout()));
    for (size_t member = 0; member < size(); ++member) {
      if (member == index()) {
        copy(result, source, sendCounts[member]);
      } else {
        SLUICE_RETURN_IF_ERROR(receive(member, result, receiveCounts[member]));
        SLUICE_RETURN_IF_ERROR(send(member, source, sendCounts[member]));
      }
      source += sendCounts[member];
      result += receiveCounts[member];
    }
    return world.wait();
  }

  Status doBroadcast(std::byte *data, size_t bytes, size_t root, std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(world.begin(label, timeout()));
    if (root != index()) {
      SLUICE_RETURN_IF_ERROR(receive(root, data, bytes));
      return world.wait();
    }
    for (size_t member = 0; member < size(); ++member)
      if (member != root)
        SLUICE_RETURN_IF_ERROR(send(member, data, bytes));
    return world.wait();
  }

  Status doBarrier(std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(world.begin(label, timeout()));
    for (size_t member = 0; member < size(); ++member)
      if (member != index()) {
        SLUICE_RETURN_IF_ERROR(world.receive(ranks()[member], tag, nullptr, 0));
        SLUICE_RETURN_IF_ERROR(world.send(ranks()[member], tag, nullptr, 0));
      }
    return world.wait();
  }

  // All members know all sizes, so nothing is sent where there is nothing.
  Status send(size_t member, const void *data, size_t bytes) {
    return bytes == 0 ? Status() : world.send(ranks()[member], tag, data, bytes);
  }
  Status receive(size_t member, void *data, size_t bytes) {
    return bytes == 0 ? Status() : world.receive(ranks()[member], tag, data, bytes);
  }

  /// Sends length(m) elements of the source at offsets[m] to each member m, and points parts[] to
  /// the own part of all members' sources.
  template <typename Length> Status exchangeParts(const float *source, Length length) {
    const size_t own = length(index());
    float *place = scratch.data();
    for (size_t member = 0; member < size(); ++member) {
      if (member == index()) {
        parts[member] = source + offsets[member];
        continue;
      }
      parts[member] = place;
      SLUICE_RETURN_IF_ERROR(receive(member, place, own * sizeof(float)));
      SLUICE_RETURN_IF_ERROR(
          send(member, source + offsets[member], length(member) * sizeof(float)));
      place += own;
    }
    return world.wait();
  }

  template <typename Bytes> Status gather(const std::byte *source, std::byte *result, Bytes bytes) {
    for (size_t member = 0; member < size(); ++member) {
      if (member == index()) {
        copy(result, source, bytes(member));
      } else {
        SLUICE_RETURN_IF_ERROR(receive(member, result, bytes(member)));
        SLUICE_RETURN_IF_ERROR(send(member, source, bytes(index())));
      }
      result += bytes(member);
    }
    return world.wait();
  }

  static void copy(std::byte *to, const std::byte *from, size_t bytes) {
    if (bytes > 0 && to != from)
      std::memcpy(to, from, bytes);
  }

  MpiWorld &world;
  int tag = 0;
  size_t window = 0;                ///< elements of one member's part in the scratch
  std::vector<float> scratch;       ///< parts of the other members
  std::vector<const float *> parts; ///< by member
  std::vector<uint64_t> offsets;    ///< by member, in elements of the source
};

class MpiCommunicator final : public Communicator {
public:
  MpiCommunicator(const CollectiveOptions &options, std::unique_ptr<MpiWorld> inWorld)
      : Communicator(inWorld->rank(), options), world(std::move(inWorld)) {}
  ~MpiCommunicator() override { dissolveWorld(); }

  void abort(const Status &why) override { world->fail(abortedByStatus(rank(), why)); }
  Status health() override { return world->health(); }

private:
  Result<std::unique_ptr<Group>> doCreateGroup(GroupOptions options) override {
    if (options.maxBytes > MpiWorld::kMaxMessageBytes)
      return unsupported(
          format("a group for operations of %llu bytes; the mpi backend sends at most "
                 "%llu at once, so lower the number of tokens per step",
                 static_cast<unsigned long long>(options.maxBytes),
                 static_cast<unsigned long long>(MpiWorld::kMaxMessageBytes)));
    auto group = std::make_unique<MpiGroup>(std::move(options), *world);
    SLUICE_RETURN_IF_ERROR(group->form(std::max(timeout(), group->timeout())));
    return Result<std::unique_ptr<Group>>(std::move(group));
  }

  const std::unique_ptr<MpiWorld> world;
};

std::optional<int> numberIn(const char *variable) {
  const char *text = std::getenv(variable);
  if (!text || !*text)
    return std::nullopt;
  char *end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end || value < 0 || value > 1'000'000)
    return std::nullopt;
  return static_cast<int>(value);
}

} // namespace

std::optional<MpiLaunch> detectMpiLaunch() {
  constexpr const char *kVariables[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"}};
  for (const auto &[rankName, sizeName] : kVariables) {
    const auto rank = numberIn(rankName), size = numberIn(sizeName);
    if (rank && size && *rank < *size)
      return MpiLaunch{.rank = *rank, .size = *size, .variable = sizeName};
  }
  return std::nullopt;
}

Result<Communicators> connectMpi(const CollectiveOptions &options) {
  // Told apart before MPI starts: outside a launch MPI_Init may try to start daemons of its own.
  const std::optional<MpiLaunch> launch = detectMpiLaunch();
  if (!launch)
    return invalidArgument(format("collectives backend \"mpi\": no launcher of MPI started this "
                                  "process; start it as mpirun -n %d ..., or use \"local\"",
                                  options.worldSize));
  if (launch->size != options.worldSize)
    return invalidArgument(format("collectives backend \"mpi\": %d ranks were started (%s), %d are "
                                  "needed; start it as mpirun -n %d ...",
                                  launch->size, launch->variable.c_str(), options.worldSize,
                                  options.worldSize));
  static std::atomic_flag connected;
  SLUICE_ASSIGN_OR_RETURN(const SluiceMpiModule *module, loadMpiModule());
  if (connected.test_and_set())
    return invalidArgument("collectives backend \"mpi\" is connected already; MPI starts once per "
                           "process");
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<MpiWorld> world, MpiWorld::start(*module, options));
  Communicators result;
  result.push_back(std::make_unique<MpiCommunicator>(options, std::move(world)));
  return result;
}

} // namespace sluice
