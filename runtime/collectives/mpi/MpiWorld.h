//===- MpiWorld.h - Messages with deadlines ---------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// MPI itself waits for ever and, when a rank fails, leaves the others in the dark. This layer posts
// non-blocking messages only and polls them together with one control receive, through which ranks
// tell each other that they failed or left.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_MPI_MPIWORLD_H
#define SLUICE_RUNTIME_COLLECTIVES_MPI_MPIWORLD_H

#include "runtime/collectives/Collectives.h"
#include "runtime/collectives/StatusRecord.h"
#include "runtime/collectives/mpi/MpiModule.h"

namespace sluice {

/// One rank's connection to the others. Not thread-safe. Not movable: MPI holds addresses in it.
class MpiWorld {
public:
  /// Initializes MPI and checks what it offers.
  static Result<std::unique_ptr<MpiWorld>> start(const SluiceMpiModule &module,
                                                 const CollectiveOptions &options);
  ~MpiWorld();
  MpiWorld(const MpiWorld &) = delete;
  MpiWorld &operator=(const MpiWorld &) = delete;

  int rank() const { return ownRank; }
  int size() const { return worldSize; }

  /// Largest message in bytes.
  static constexpr uint64_t kMaxMessageBytes = uint64_t(1) << 30;

  /// Begins an operation; fails at once if the world is known to be broken. Its messages are posted
  /// with send() and receive(), at most one each per peer between two calls of wait(). `label` must
  /// outlive the operation.
  Status begin(std::string_view label, std::chrono::milliseconds timeout);
  Status send(int peer, int tag, const void *data, size_t bytes);
  Status receive(int peer, int tag, void *data, size_t bytes);
  /// Waits for all posted messages. The time-out counts from here.
  Status wait();

  /// Gives up: later operations fail with `why`, and the other ranks are told.
  void fail(const Status &why);
  /// Reads what others have said; ok, or why the world is broken.
  Status health();

  /// Tags of a group's messages: the group's id, which its members agree upon.
  static constexpr int kControlTag = 0, kGroupTag = 1, kFirstGroupId = 2;
  int nextGroupId = kFirstGroupId;
  int maxTag() const { return largestTag; }

private:
  enum ControlKind : uint32_t { kAbort = 1, kLeave = 2 };
  struct Control {
    uint32_t kind = 0;
    StatusRecord record;
  };
  struct Pending {
    int peer;
    size_t bytes;
    bool isReceive, done;
  };
  class Patience;

  MpiWorld(const SluiceMpiModule &module, const CollectiveOptions &options);

  // Requests: the control receive, one abort and one leave per peer, then the data.
  static constexpr size_t kControlRequest = 0;
  size_t controlRequest(ControlKind kind, int peer) const {
    return 1 + (kind == kLeave ? worldSize : 0) + peer;
  }
  size_t dataRequest(size_t index) const { return 1 + 2 * size_t(worldSize) + index; }

  Status mpiError(const char *call, int code) const;
  Status post(int peer, int tag, void *data, size_t bytes, bool isReceive);
  Status expectControl();
  Status readControl();
  void tell(ControlKind kind, Control &message);
  /// Tests the posted messages; sets `all` if none is left.
  Status testPending(bool &all);
  Status absent(bool onlyDeparted) const;
  void withdraw();
  bool everyoneLeft() const;

  const SluiceMpiModule &mpi;
  const std::chrono::milliseconds worldTimeout;
  int ownRank = 0, worldSize = 1, largestTag = 0;
  Control incoming, abortMessage, leaveMessage;
  std::vector<Pending> pending; ///< of the present operation; capacity taken at start
  std::vector<bool> left;       ///< by rank
  std::string_view label;
  std::chrono::milliseconds timeout{};
  Status broken;
  /// Data requests could not be withdrawn. They refer to buffers of callers, which may be freed by
  /// now, and every call of MPI may make it work on them: there must be none any more.
  bool poisoned = false;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_MPI_MPIWORLD_H
