//===- MpiWorld.cpp - Messages with deadlines -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A rank breaks the world when it gives up itself or hears that another has; whoever gives up tells
// all others, so that one time-out suffices for everyone. Control messages are small enough to be
// sent whether or not the receiver is listening, so telling never waits.
//
// A rank that leaves in good order says so as its last message. Data it sent before may still be in
// flight then, hence a short grace before an operation that waits for it is given up.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/mpi/MpiWorld.h"

#include "runtime/base/Format.h"
#include "runtime/collectives/CollectiveErrors.h"

#include <algorithm>
#include <cassert>
#include <thread>

namespace sluice {

namespace {

using Clock = std::chrono::steady_clock;

/// Longer than ranks of a step wait for each other.
constexpr auto kAwake = std::chrono::milliseconds(20);
constexpr auto kGrace = std::chrono::milliseconds(250);
constexpr auto kBrokenFarewell = std::chrono::milliseconds(2000);
/// Polls after which a message that nothing holds up has been moved.
constexpr int kSettlingPolls = 1000;

} // namespace

/// Paces a loop of polls: at full speed first, since ranks of a balanced plan come together within
/// microseconds, then leaving the core to others, then asleep for most of the time, as when a
/// server has no requests.
class MpiWorld::Patience {
public:
  /// With fewer cores than ranks the one that is awaited may need this core.
  explicit Patience(int worldSize)
      : spins(unsigned(worldSize) <= std::thread::hardware_concurrency() ? 2000 : 20) {}

  void pause() {
    if (++polls <= spins)
      return;
    idle = idle || (timeToLook() && elapsed() > kAwake);
    if (idle)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    else
      std::this_thread::yield();
  }

  /// At the first poll and at every 16th: reading the clock is not free.
  bool timeToLook() const { return idle || polls % 16 == 0; }
  Clock::duration elapsed() const { return Clock::now() - begin; }

  const int spins;
  int64_t polls = 0;
  bool idle = false;
  const Clock::time_point begin = Clock::now();
};

MpiWorld::MpiWorld(const SluiceMpiModule &module, const CollectiveOptions &options)
    : mpi(module), worldTimeout(options.timeout) {}

Status MpiWorld::mpiError(const char *call, int code) const {
  char text[256];
  mpi.describe(code, text, sizeof(text));
  return Status(StatusCode::kIo, format("MPI failed to %s: %s", call, text), {.rank = ownRank});
}

Result<std::unique_ptr<MpiWorld>> MpiWorld::start(const SluiceMpiModule &module,
                                                  const CollectiveOptions &options) {
  std::unique_ptr<MpiWorld> world(new MpiWorld(module, options));
  world->poisoned = true; // until it works, destruction must not take leave
  int threads = 0;
  if (int code = module.start(&world->ownRank, &world->worldSize, &world->largestTag, &threads))
    return world->mpiError("start", code);
  if (!threads)
    return unsupported(
        "this MPI allows calls from one thread only (MPI_THREAD_SERIALIZED is needed); "
        "use one built with thread support");
  if (world->worldSize != options.worldSize)
    return invalidArgument(format("MPI has %d ranks, %d are needed; start mpirun -n %d",
                                  world->worldSize, options.worldSize, options.worldSize));
  const size_t peers = world->worldSize;
  if (int code = module.reserve(world->dataRequest(2 * peers)))
    return world->mpiError("reserve requests", code);
  world->pending.reserve(2 * peers);
  world->left.resize(peers);
  SLUICE_RETURN_IF_ERROR(world->expectControl());
  world->poisoned = false;
  return world;
}

MpiWorld::~MpiWorld() {
  if (poisoned)
    return;
  leaveMessage.record = StatusRecord(Status(), ownRank);
  tell(kLeave, leaveMessage);
  left[ownRank] = true;
  for (Patience patience(worldSize); !everyoneLeft(); patience.pause()) {
    if (!readControl().isOk())
      return;
    const auto limit = broken.isOk() ? worldTimeout : std::min(worldTimeout, kBrokenFarewell);
    if (patience.timeToLook() && patience.elapsed() > limit)
      return;
  }
  // Nobody sends any more. A receive that nothing arrives for can always be withdrawn.
  int done = mpi.cancel(kControlRequest) != 0;
  size_t bytes = 0;
  while (!done)
    if (mpi.test(kControlRequest, &done, &bytes))
      return;
  mpi.finish(); // an error now would help nobody: all results are out
}

Status MpiWorld::begin(std::string_view newLabel, std::chrono::milliseconds newTimeout) {
  label = newLabel;
  timeout = newTimeout;
  pending.clear();
  const Status state = health();
  return state.isOk() ? state : abandonedStatus(label, state);
}

Status MpiWorld::send(int peer, int tag, const void *data, size_t bytes) {
  // MPI reads only; the table's functions share one way to be posted.
  return post(peer, tag, const_cast<void *>(data), bytes, false);
}

Status MpiWorld::receive(int peer, int tag, void *data, size_t bytes) {
  return post(peer, tag, data, bytes, true);
}

Status MpiWorld::post(int peer, int tag, void *data, size_t bytes, bool isReceive) {
  assert(pending.size() < pending.capacity() && "one send and one receive per peer at a time");
  const size_t request = dataRequest(pending.size());
  if (int code = isReceive ? mpi.receive(request, data, bytes, peer, tag)
                           : mpi.send(request, data, bytes, peer, tag)) {
    fail(mpiError(isReceive ? "receive" : "send", code).withContext(collectivePrefix(label)));
    return broken;
  }
  pending.push_back({.peer = peer, .bytes = bytes, .isReceive = isReceive, .done = false});
  return {};
}

Status MpiWorld::testPending(bool &all) {
  all = true;
  for (size_t i = 0; i < pending.size(); ++i) {
    Pending &message = pending[i];
    if (message.done)
      continue;
    int done = 0;
    size_t bytes = 0;
    const int code = mpi.test(dataRequest(i), &done, &bytes);
    message.done = done || code; // a failed request is over
    if (code)
      return internalError(collectivePrefix(label) +
                           std::string(mpiError("exchange data", code).message()) +
                           format(" (with rank %d)", message.peer));
    if (done && message.isReceive && bytes != message.bytes)
      return internalError(collectivePrefix(label) +
                           format("rank %d sent %zu bytes, rank %d expects %zu", message.peer,
                                  bytes, ownRank, message.bytes));
    all &= message.done;
  }
  return {};
}

Status MpiWorld::wait() {
  std::optional<Clock::time_point> departureSeen;
  for (Patience patience(worldSize);; patience.pause()) {
    bool all = false;
    if (Status status = testPending(all); !status.isOk()) {
      fail(status);
      return broken;
    }
    if (all) {
      pending.clear();
      return {};
    }
    if (!patience.timeToLook())
      continue;
    if (const Status state = health(); !state.isOk())
      return abandonedStatus(label, state);
    if (Status departed = absent(true); !departed.isOk()) {
      if (!departureSeen)
        departureSeen = Clock::now();
      if (patience.polls > kSettlingPolls && Clock::now() - *departureSeen > kGrace) {
        fail(departed);
        return broken;
      }
    }
    if (timeout != kNoTimeout && patience.elapsed() > timeout) {
      fail(absent(false));
      return broken;
    }
  }
}

Status MpiWorld::absent(bool onlyDeparted) const {
  std::vector<int> ranks; // on the way to an error only, or while someone has left
  for (const Pending &message : pending) {
    if (message.done)
      continue;
    if (onlyDeparted && left[message.peer])
      return departedRankStatus(message.peer, label);
    if (!onlyDeparted && !std::count(ranks.begin(), ranks.end(), message.peer))
      ranks.push_back(message.peer);
  }
  return onlyDeparted ? Status() : missingRanksStatus(ranks, label, timeout);
}

void MpiWorld::fail(const Status &why) {
  if (!broken.isOk() || poisoned)
    return;
  broken = why;
  abortMessage.record = StatusRecord(why, ownRank);
  tell(kAbort, abortMessage);
  withdraw();
}

Status MpiWorld::health() {
  if (broken.isOk() && !poisoned)
    if (Status status = readControl(); !status.isOk())
      fail(status);
  return broken;
}

Status MpiWorld::expectControl() {
  if (int code =
          mpi.receive(kControlRequest, &incoming, sizeof(incoming), kSluiceMpiAnyPeer, kControlTag))
    return mpiError("receive", code);
  return {};
}

Status MpiWorld::readControl() {
  for (;;) {
    int done = 0;
    size_t bytes = 0;
    if (int code = mpi.test(kControlRequest, &done, &bytes))
      return mpiError("receive", code);
    if (!done)
      return {};
    const int sender = incoming.record.rank;
    if (bytes != sizeof(incoming) || sender < 0 || sender >= worldSize)
      return internalError("a control message of MPI is malformed; all ranks must run one build");
    if (incoming.kind == kLeave) {
      left[sender] = true;
    } else if (broken.isOk()) {
      // The sender has told everyone; only the own messages remain to be dealt with.
      const Status theirs = incoming.record.status();
      broken = theirs.code() == StatusCode::kAborted ? theirs : abortedByStatus(sender, theirs);
      withdraw();
      if (poisoned)
        return {};
    }
    SLUICE_RETURN_IF_ERROR(expectControl());
  }
}

void MpiWorld::tell(ControlKind kind, Control &message) {
  message.kind = kind;
  for (int peer = 0; peer < worldSize; ++peer)
    if (peer != ownRank) // also those that have left: they wait for the last to say so
      // Who cannot be reached learns it from a time-out.
      (void)mpi.send(controlRequest(kind, peer), &message, sizeof(message), peer, kControlTag);
  for (int poll = 0; poll < kSettlingPolls; ++poll) {
    bool all = true;
    for (int peer = 0; peer < worldSize; ++peer) {
      int done = 0;
      size_t bytes = 0;
      all &= mpi.test(controlRequest(kind, peer), &done, &bytes) != 0 || done;
    }
    if (all)
      return;
  }
}

void MpiWorld::withdraw() {
  for (size_t i = 0; i < pending.size(); ++i)
    if (!pending[i].done && pending[i].isReceive)
      (void)mpi.cancel(dataRequest(i));
  bool all = pending.empty();
  for (int poll = 0; poll < kSettlingPolls && !all; ++poll) {
    all = true;
    for (size_t i = 0; i < pending.size(); ++i) {
      int done = 0;
      size_t bytes = 0;
      if (!pending[i].done)
        pending[i].done = mpi.test(dataRequest(i), &done, &bytes) != 0 || done;
      all &= pending[i].done;
    }
  }
  poisoned = !all;
  pending.clear();
}

bool MpiWorld::everyoneLeft() const {
  return std::find(left.begin(), left.end(), false) == left.end();
}

} // namespace sluice
