//===- Collectives.h - Exchanges between the ranks of a plan ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Ranks of a plan meet in collectives only. A backend says how bytes travel (threads of one
// process, MPI); everything that programs may rely on is said here and checked by one conformance
// suite:
//
// - Sums are added in the order of the group's rank list, so every rank and every backend gets the
//   same bits. Plans can then be compared with each other and with a single rank, bit by bit.
// - An operation never hangs. A rank that reports a failure, leaves or does not come within the
//   time-out makes the pending and all later operations of every other rank return kAborted (exit
//   code 10), with the ranks, the operation and the time-out in the message.
// - After a group is created its operations allocate nothing.
//
// docs/collectives.md has the contract at length and says how to add a backend.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_COLLECTIVES_H
#define SLUICE_RUNTIME_COLLECTIVES_COLLECTIVES_H

#include "sluice/status.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// A time-out that never passes: for groups in which ranks idle, such as the one that hands out the
/// next step. Failures that are reported still end such a wait.
inline constexpr std::chrono::milliseconds kNoTimeout = std::chrono::milliseconds::max();

struct CollectiveOptions {
  /// The number of ranks of the plan.
  int worldSize = 1;
  /// How long a rank waits for the others in an operation before it gives up.
  std::chrono::milliseconds timeout{60'000};
};

/// What a group is created from. All members give the same values.
struct GroupOptions {
  /// World ranks of the members; parts of buffers and sums follow this order.
  std::vector<int> ranks;
  /// The largest source or result, in bytes, of any member in any operation of the group. Scratch
  /// memory is taken for it at creation.
  uint64_t maxBytes = 0;
  /// Instead of the world's time-out; creation waits for the longer of both.
  std::optional<std::chrono::milliseconds> timeout;
};

/// One rank's membership in an ordered list of ranks.
///
/// Every member calls the same operations in the same order. Buffers are host memory and must stay
/// valid and untouched by others until the call returns; a result is complete on return. Source and
/// result must not overlap except where "in place" says so. `label` names the operation in errors.
///
/// An operation returns kInvalidArgument, before anything is exchanged, when sizes contradict each
/// other or maxBytes; the other members then wait for this rank: abort() the world if the caller
/// cannot go on. It returns kAborted when another rank fails or does not come, after which results
/// are undefined and every later operation of the world returns kAborted at once.
///
/// A group is used by one thread at a time, must be destroyed before its communicator, and a
/// destroyed group counts as having left.
class Group {
public:
  virtual ~Group() = default;
  Group(const Group &) = delete;
  Group &operator=(const Group &) = delete;

  std::span<const int> ranks() const { return options.ranks; }
  size_t size() const { return options.ranks.size(); }
  /// This rank's place in ranks().
  size_t index() const { return ownIndex; }
  uint64_t maxBytes() const { return options.maxBytes; }
  std::chrono::milliseconds timeout() const { return *options.timeout; }

  /// result[i] = sum over members of source[i], on every member; as many elements on each. In
  /// place: result is source.
  Status allReduceSum(std::span<const float> source, std::span<float> result,
                      std::string_view label);

  /// Adds up like allReduceSum; member m gets the m-th part of the sum, counts[m] elements. The
  /// source has all parts one after the other. In place: result is the own part of the source.
  Status reduceScatterSum(std::span<const float> source, std::span<const uint64_t> counts,
                          std::span<float> result, std::string_view label);

  /// Every member gets all members' sources one after the other; counts[m] is the number of bytes
  /// of member m. In place: source is the own part of the result.
  Status allGather(std::span<const std::byte> source, std::span<const uint64_t> counts,
                   std::span<std::byte> result, std::string_view label);

  /// Sends sendCounts[m] bytes to member m (parts one after the other in the source) and gets
  /// receiveCounts[m] bytes from it. Not in place.
  Status allToAll(std::span<const std::byte> source, std::span<const uint64_t> sendCounts,
                  std::span<std::byte> result, std::span<const uint64_t> receiveCounts,
                  std::string_view label);

  /// `data` of member `root` (an index into ranks()) replaces that of the others, which is as long.
  Status broadcast(std::span<std::byte> data, size_t root, std::string_view label);

  /// Returns when every member has called it.
  Status barrier(std::string_view label);

protected:
  Group(GroupOptions options, int rank);

private:
  // Called with arguments that agree with each other, maxBytes and the rules about overlap.
  virtual Status doAllReduceSum(const float *source, float *result, size_t count,
                                std::string_view label) = 0;
  virtual Status doReduceScatterSum(const float *source, std::span<const uint64_t> counts,
                                    float *result, std::string_view label) = 0;
  virtual Status doAllGather(const std::byte *source, std::span<const uint64_t> counts,
                             std::byte *result, std::string_view label) = 0;
  virtual Status doAllToAll(const std::byte *source, std::span<const uint64_t> sendCounts,
                            std::byte *result, std::span<const uint64_t> receiveCounts,
                            std::string_view label) = 0;
  virtual Status doBroadcast(std::byte *data, size_t bytes, size_t root,
                             std::string_view label) = 0;
  virtual Status doBarrier(std::string_view label) = 0;

  friend class Communicator; // agree() waits as long as its caller says
  GroupOptions options;      ///< with the time-out that applies
  size_t ownIndex;
};

/// One rank of a world. Used by one thread at a time, apart from abort(). Destroying it tells the
/// others that the rank has left; those that still wait for it get kAborted.
class Communicator {
public:
  virtual ~Communicator() = default;
  Communicator(const Communicator &) = delete;
  Communicator &operator=(const Communicator &) = delete;

  int rank() const { return ownRank; }
  int size() const { return worldSize; }

  /// Joins a group, together with all its members; members that share several groups create them
  /// in the same order. Errors: kInvalidArgument for a list that is empty, has a rank twice or
  /// outside the world, or lacks this rank; kResourceExhausted; kUnsupported for sizes that the
  /// backend cannot send; kAborted.
  Result<std::unique_ptr<Group>> createGroup(GroupOptions options);

  /// Every rank of the world says how it fares and learns how all do: ok, or the status of the
  /// first rank (by number) that failed, with its code and with the rank in where(). Used where
  /// errors are still normal (load); the world stays usable. `timeout` replaces the world's.
  Status agree(const Status &mine, std::string_view label,
               std::optional<std::chrono::milliseconds> timeout = std::nullopt);

  /// Breaks the world: all pending and later operations of all ranks return kAborted with `why`,
  /// an error. The first reason given stays. Returns without waiting for anyone. Thread-safe where
  /// the backend says so (local).
  virtual void abort(const Status &why) = 0;

  /// Ok, or why the world is broken, as far as this rank has heard.
  virtual Status health() = 0;

protected:
  Communicator(int rank, const CollectiveOptions &options)
      : ownRank(rank), worldSize(options.worldSize), worldTimeout(options.timeout) {}

  std::chrono::milliseconds timeout() const { return worldTimeout; }
  /// Gives up the group of agree(); backends call it when they are destroyed, while they still
  /// work.
  void dissolveWorld() { everyone.reset(); }

private:
  /// `options` are valid and have a time-out.
  virtual Result<std::unique_ptr<Group>> doCreateGroup(GroupOptions options) = 0;

  const int ownRank, worldSize;
  const std::chrono::milliseconds worldTimeout;
  std::unique_ptr<Group> everyone; ///< made by the first agree()
  std::vector<std::byte> reports;  ///< agree()'s: one record of every rank
};

/// The ranks that this process drives, in ascending order of rank: all of them under `local`, one
/// under `mpi`. Communicators of one process may be used by one thread each at the same time.
using Communicators = std::vector<std::unique_ptr<Communicator>>;

/// Backends by name. Not thread-safe.
class CollectiveBackends {
public:
  using Connect = std::function<Result<Communicators>(const CollectiveOptions &)>;

  /// kInvalidArgument if the name is taken.
  Status add(std::string name, Connect connect);

  /// Makes this process part of a world. Errors: kInvalidArgument for an unknown backend or a world
  /// size that is not the number of ranks started; those of the backend.
  Result<Communicators> connect(std::string_view name, const CollectiveOptions &options) const;

  std::vector<std::string> names() const;

private:
  std::map<std::string, Connect, std::less<>> backends;
};

/// Adds every backend of this build: "local" and "mpi" (which looks for its module when
/// connecting).
void registerAllCollectives(CollectiveBackends &backends);

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_COLLECTIVES_H
