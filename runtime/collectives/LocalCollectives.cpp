//===- LocalCollectives.cpp - Ranks as threads of one process ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Members see each other's memory, so no byte is staged: an operation is "all have come", then
// every member does its share of the reading and writing, then "all are done". An all-reduce cuts
// the elements into one range per member; that member reads the range of all sources and writes it
// into all results, which also works in place because no one else touches that range.
//
// Memory ordering. A member writes its slot (addresses, sizes), then changes `state` with an
// acq_rel compare-and-exchange. All changes of `state` are read-modify-writes, so the last arrival,
// which moves the generation on, continues the release sequence of the earlier ones; whoever reads
// the new generation (acquire) sees all slots and all sources. Reads and writes of the share come
// before the acq_rel increment of `done`; whoever reads the full count (acquire) sees all results,
// and all others have finished with its buffers and slots.
//
// Failure. The bit kBroken is set in the same word as the generation: either a generation completes
// and all its members carry out the operation, or it is broken and none touches anyone's memory.
// A member may give up waiting only before the generation completes. After that the others are busy
// copying, which ends by itself, and to return earlier would free memory under their hands.
//
// Waiting spins for a short time, since ranks of balanced plans come together within microseconds,
// then blocks. Wake-ups are not lost: a sleeper counts itself before it looks at the word again,
// the waker changes the word before it looks at the count, both sequentially consistent.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/LocalCollectives.h"

#include "runtime/base/Format.h"
#include "runtime/collectives/CollectiveErrors.h"
#include "runtime/collectives/OrderedSum.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

namespace sluice {

namespace {

using Clock = std::chrono::steady_clock;

enum class Kind : uint32_t { kForm, kAllReduce, kReduceScatter, kAllGather, kAllToAll, kBroadcast };

/// What a member shows to the others during an operation; a cache line of its own.
struct alignas(64) Slot {
  Kind kind{};
  uint64_t signature = 0; ///< of the sizes that all members must agree on
  const std::byte *source = nullptr;
  std::byte *result = nullptr;
  const uint64_t *sendCounts = nullptr;
  std::atomic<uint32_t> arrivedIn{0}; ///< generation + 1; names those that are missing
};

/// FNV-1a over 64-bit words.
uint64_t signatureOf(std::span<const uint64_t> words) {
  uint64_t hash = 0xcbf29ce484222325;
  for (uint64_t word : words)
    hash = (hash ^ word) * 0x100000001b3;
  return hash;
}

void relaxCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// What the members of a group share.
class Meeting {
public:
  // Layout of `state`: generation in the upper half, kBroken, number of arrivals.
  static constexpr uint64_t kBroken = uint64_t(1) << 31;
  static uint32_t generation(uint64_t word) { return word >> 32; }

  Meeting(const GroupOptions &options, int spinMicroseconds)
      : maxBytes(options.maxBytes), spin(spinMicroseconds), slots(options.ranks.size()) {}

  void breakUp() {
    state.fetch_or(kBroken, std::memory_order_seq_cst);
    wake();
  }

  void depart(int rank) {
    departed.store(rank);
    breakUp();
  }

  void wake() {
    if (sleepers.load(std::memory_order_seq_cst) == 0)
      return;
    { std::lock_guard lock(mutex); }
    condition.notify_all();
  }

  /// Waits until `ready()`, or returns false at the deadline.
  template <typename Ready>
  bool await(const std::optional<Clock::time_point> &deadline, Ready ready) {
    const auto spinEnd = Clock::now() + spin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (ready())
          return true;
        relaxCpu();
      }
    } while (Clock::now() < spinEnd);
    for (int i = 0; i < 4; ++i) { // with fewer cores than ranks the others need this one
      std::this_thread::yield();
      if (ready())
        return true;
    }
    std::unique_lock lock(mutex);
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    bool result = true;
    if (deadline)
      result = condition.wait_until(lock, *deadline, ready);
    else
      condition.wait(lock, ready);
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    return result;
  }

  const uint64_t maxBytes; ///< of the member that came first
  const std::chrono::microseconds spin;
  std::vector<Slot> slots;
  alignas(64) std::atomic<uint64_t> state{0};
  alignas(64) std::atomic<uint64_t> done{0}; ///< shares finished since creation
  std::atomic<int> departed{-1};             ///< a rank that has given the group up
  std::atomic<int> sleepers{0};
  std::mutex mutex;
  std::condition_variable condition;
};

/// What the ranks of a world share.
class LocalWorld {
public:
  explicit LocalWorld(int size)
      : left(size), created(size),
        // Spinning longer than a context switch takes pays only if the others run meanwhile.
        spinMicroseconds(unsigned(size) <= std::thread::hardware_concurrency() ? 50 : 0) {}

  Status failure() {
    std::lock_guard lock(mutex);
    return reason;
  }

  void fail(const Status &why) {
    std::lock_guard lock(mutex);
    failLocked(why);
  }

  /// Breaks the world unless `generation` of `meeting` has completed; says whether it did.
  bool expire(Meeting &meeting, uint32_t generation, const Status &why) {
    std::lock_guard lock(mutex);
    uint64_t word = meeting.state.load(std::memory_order_acquire);
    do {
      if (Meeting::generation(word) != generation)
        return false;
    } while (!meeting.state.compare_exchange_weak(
        word, word | Meeting::kBroken, std::memory_order_seq_cst, std::memory_order_acquire));
    failLocked(why);
    return true;
  }

  void leave(int rank) {
    std::lock_guard lock(mutex);
    left[rank] = true;
    for (auto &[ranks, meetings] : meetingsOf)
      if (std::count(ranks.begin(), ranks.end(), rank))
        for (const std::unique_ptr<Meeting> &meeting : meetings)
          meeting->depart(rank);
  }

  /// The meeting of `rank`'s next group with these members: the n-th creation of a list by one
  /// member is the n-th of the others. Lives as long as the world.
  Result<Meeting *> join(const GroupOptions &options, int rank) {
    std::lock_guard lock(mutex);
    if (!reason.isOk())
      return abandonedStatus("create group", reason);
    const size_t occurrence = created[rank][options.ranks]++;
    std::vector<std::unique_ptr<Meeting>> &meetings = meetingsOf[options.ranks];
    if (meetings.size() == occurrence) {
      meetings.push_back(std::make_unique<Meeting>(options, spinMicroseconds));
      for (int member : options.ranks)
        if (left[member])
          meetings.back()->depart(member);
    }
    return meetings[occurrence].get();
  }

private:
  void failLocked(const Status &why) {
    if (!reason.isOk())
      return;
    reason = why;
    for (auto &[ranks, meetings] : meetingsOf)
      for (const std::unique_ptr<Meeting> &meeting : meetings)
        meeting->breakUp();
  }

  std::mutex mutex; ///< taken before a meeting's
  Status reason;
  std::vector<bool> left;
  std::vector<std::map<std::vector<int>, size_t>> created; ///< by rank: groups made of a list
  std::map<std::vector<int>, std::vector<std::unique_ptr<Meeting>>> meetingsOf;
  const int spinMicroseconds;
};

class LocalGroup final : public Group {
public:
  LocalGroup(GroupOptions groupOptions, int rank, std::shared_ptr<LocalWorld> inWorld,
             Meeting *with)
      : Group(std::move(groupOptions), rank), rank(rank), world(std::move(inWorld)), meeting(with),
        parts(size()) {}

  ~LocalGroup() override { meeting->depart(rank); }

  /// Waits until all members have made the group, and checks that they want the same.
  Status form(std::chrono::milliseconds creationTimeout) {
    const char *label = "create group";
    SLUICE_RETURN_IF_ERROR(
        begin(Kind::kForm, maxBytes(), nullptr, nullptr, label, creationTimeout));
    end();
    return {};
  }

private:
  /// Waits until all members have called it.
  Status arrive(std::string_view label, std::chrono::milliseconds limit) {
    Meeting &m = *meeting;
    uint64_t word = m.state.load(std::memory_order_acquire);
    uint64_t next = 0;
    do {
      if (word & Meeting::kBroken)
        return brokenStatus(label);
      m.slots[index()].arrivedIn.store(Meeting::generation(word) + 1, std::memory_order_relaxed);
      const bool last = (word & (Meeting::kBroken - 1)) + 1 == size();
      next = last ? uint64_t(Meeting::generation(word) + 1) << 32 : word + 1;
    } while (!m.state.compare_exchange_weak(word, next, std::memory_order_seq_cst,
                                            std::memory_order_acquire));
    const uint32_t current = Meeting::generation(word);
    if (Meeting::generation(next) != current) {
      m.wake();
      return {};
    }
    std::optional<Clock::time_point> deadline;
    if (limit != kNoTimeout)
      deadline = Clock::now() + limit;
    m.await(deadline, [&] {
      const uint64_t now = m.state.load(std::memory_order_seq_cst);
      return Meeting::generation(now) != current || (now & Meeting::kBroken);
    });
    word = m.state.load(std::memory_order_acquire);
    if (Meeting::generation(word) != current)
      return {};
    if (word & Meeting::kBroken)
      return brokenStatus(label);
    const Status why = timeoutStatus(label, current, limit);
    return world->expire(m, current, why) ? world->failure() : Status();
  }

  Status doAllReduceSum(const float *source, float *result, size_t count,
                        std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(begin(Kind::kAllReduce, signatureOf({{count}}), source, result, label));
    // Whole cache lines, so that no two members write into one (for aligned buffers).
    const size_t lines = (count + 15) / 16;
    const size_t first = std::min(count, lines * index() / size() * 16);
    const size_t last = std::min(count, lines * (index() + 1) / size() * 16);
    collectParts(0);
    float tile[kSumTile];
    for (size_t at = first; at < last; at += kSumTile) {
      const size_t length = std::min(kSumTile, last - at);
      sumTile(parts, at, length, tile);
      for (const Slot &slot : meeting->slots)
        std::memcpy(reinterpret_cast<float *>(slot.result) + at, tile, length * sizeof(float));
    }
    end();
    return {};
  }

  Status doReduceScatterSum(const float *source, std::span<const uint64_t> counts, float *result,
                            std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(begin(Kind::kReduceScatter, signatureOf(counts), source, result, label));
    uint64_t offset = 0;
    for (size_t member = 0; member < index(); ++member)
      offset += counts[member];
    collectParts(offset);
    sumInOrder(parts, counts[index()], result);
    end();
    return {};
  }

  Status doAllGather(const std::byte *source, std::span<const uint64_t> counts, std::byte *result,
                     std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(begin(Kind::kAllGather, signatureOf(counts), source, result, label));
    for (size_t member = 0; member < size(); ++member) {
      copy(result, meeting->slots[member].source, counts[member]);
      result += counts[member];
    }
    end();
    return {};
  }

  Status doAllToAll(const std::byte *source, std::span<const uint64_t> sendCounts,
                    std::byte *result, std::span<const uint64_t> receiveCounts,
                    std::string_view label) override {
    meeting->slots[index()].sendCounts = sendCounts.data();
    SLUICE_RETURN_IF_ERROR(begin(Kind::kAllToAll, 0, source, result, label));
    Status mismatch;
    for (size_t member = 0; member < size(); ++member) {
      const Slot &slot = meeting->slots[member];
      uint64_t offset = 0;
      for (size_t before = 0; before < index(); ++before)
        offset += slot.sendCounts[before];
      if (slot.sendCounts[index()] == receiveCounts[member])
        copy(result, slot.source + offset, receiveCounts[member]);
      else
        mismatch =
            internalError(collectivePrefix(label) +
                          format("rank %d sends %llu bytes, rank %d expects %llu", ranks()[member],
                                 static_cast<unsigned long long>(slot.sendCounts[index()]), rank,
                                 static_cast<unsigned long long>(receiveCounts[member])));
      result += receiveCounts[member];
    }
    end();
    if (!mismatch.isOk())
      world->fail(mismatch);
    return mismatch;
  }

  Status doBroadcast(std::byte *data, size_t bytes, size_t root, std::string_view label) override {
    SLUICE_RETURN_IF_ERROR(
        begin(Kind::kBroadcast, signatureOf({{bytes, root}}), data, data, label));
    copy(data, meeting->slots[root].source, bytes);
    end();
    return {};
  }

  Status doBarrier(std::string_view label) override { return arrive(label, timeout()); }

  /// Shows the own buffers, waits for all and checks that all do the same.
  Status begin(Kind kind, uint64_t signature, const void *source, void *result,
               std::string_view label, std::optional<std::chrono::milliseconds> limit = {}) {
    Slot &own = meeting->slots[index()];
    own.kind = kind;
    own.signature = signature;
    own.source = static_cast<const std::byte *>(source);
    own.result = static_cast<std::byte *>(result);
    SLUICE_RETURN_IF_ERROR(arrive(label, limit.value_or(timeout())));
    // All members compare with the first, so all come to the same verdict and none copies.
    for (size_t member = 1; member < size(); ++member) {
      const Slot &first = meeting->slots[0], &other = meeting->slots[member];
      if (other.kind == first.kind && other.signature == first.signature)
        continue;
      const Status mismatch = internalError(
          collectivePrefix(label) +
          format("ranks %d and %d run different operations or sizes", ranks()[0], ranks()[member]));
      end();
      world->fail(mismatch);
      return mismatch;
    }
    return {};
  }

  /// Waits until no member touches the others' buffers any more.
  void end() {
    Meeting &m = *meeting;
    const uint64_t all = ++exchanges * size();
    if (m.done.fetch_add(1, std::memory_order_seq_cst) + 1 == all) {
      m.wake();
      return;
    }
    m.await(std::nullopt, [&] { return m.done.load(std::memory_order_seq_cst) >= all; });
  }

  void collectParts(size_t offset) {
    for (size_t member = 0; member < size(); ++member)
      parts[member] = reinterpret_cast<const float *>(meeting->slots[member].source) + offset;
  }

  static void copy(std::byte *to, const std::byte *from, size_t bytes) {
    if (bytes > 0 && to != from)
      std::memcpy(to, from, bytes);
  }

  Status brokenStatus(std::string_view label) {
    const Status why = world->failure();
    if (!why.isOk())
      return abandonedStatus(label, why);
    world->fail(departedRankStatus(meeting->departed.load(), label));
    return world->failure();
  }

  Status timeoutStatus(std::string_view label, uint32_t generation,
                       std::chrono::milliseconds limit) const {
    std::vector<int> missing;
    for (size_t member = 0; member < size(); ++member)
      if (meeting->slots[member].arrivedIn.load(std::memory_order_relaxed) != generation + 1)
        missing.push_back(ranks()[member]);
    return missingRanksStatus(missing, label, limit);
  }

  const int rank;
  const std::shared_ptr<LocalWorld> world;
  Meeting *const meeting; ///< the world's
  std::vector<const float *> parts;
  uint64_t exchanges = 0; ///< operations that ended with end()
};

class LocalCommunicator final : public Communicator {
public:
  LocalCommunicator(int rank, const CollectiveOptions &options, std::shared_ptr<LocalWorld> inWorld)
      : Communicator(rank, options), world(std::move(inWorld)) {}

  ~LocalCommunicator() override {
    world->leave(rank());
    dissolveWorld();
  }

  void abort(const Status &why) override { world->fail(abortedByStatus(rank(), why)); }
  Status health() override { return world->failure(); }

private:
  Result<std::unique_ptr<Group>> doCreateGroup(GroupOptions options) override {
    SLUICE_ASSIGN_OR_RETURN(Meeting * meeting, world->join(options, rank()));
    auto group = std::make_unique<LocalGroup>(std::move(options), rank(), world, meeting);
    SLUICE_RETURN_IF_ERROR(group->form(std::max(timeout(), group->timeout())));
    return Result<std::unique_ptr<Group>>(std::move(group));
  }

  const std::shared_ptr<LocalWorld> world;
};

} // namespace

Result<Communicators> connectLocal(const CollectiveOptions &options) {
  auto world = std::make_shared<LocalWorld>(options.worldSize);
  Communicators result;
  for (int rank = 0; rank < options.worldSize; ++rank)
    result.push_back(std::make_unique<LocalCommunicator>(rank, options, world));
  return result;
}

} // namespace sluice
