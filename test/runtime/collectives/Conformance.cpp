//===- Conformance.cpp - Cases without failures -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/collectives/Conformance.h"

#include "runtime/base/Format.h"
#include "test/runtime/executor/AllocationCounter.h"

#include <cmath>
#include <cstring>
#include <numeric>

// A rank that stops early leaves the others waiting, so a case ends the world with its finding.
#define CHECK_OK(expr)                                                                             \
  do {                                                                                             \
    if (const Status checked = (expr); !checked.isOk())                                            \
      return stop(world, format("line %d: %s", __LINE__, checked.toString().c_str()));             \
  } while (false)
#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition))                                                                              \
      return stop(world, format("line %d: not so: %s", __LINE__, #condition));                     \
  } while (false)
#define CHECK_EMPTY(expr)                                                                          \
  do {                                                                                             \
    if (const std::string found = (expr); !found.empty())                                          \
      return found;                                                                                \
  } while (false)

namespace sluice::conformance {

namespace {

constexpr uint64_t kMaxBytes = 1 << 21;

std::string stop(Communicator &world, std::string finding) {
  world.abort(internalError(finding));
  return format("rank %d of %d: ", world.rank(), world.size()) + finding;
}

/// Values of very different sizes and signs: adding them in another order gives other bits.
float sample(int rank, uint64_t seed, uint64_t index) {
  uint64_t bits = (index + 1) * 0x9e3779b97f4a7c15 + seed * 0xbf58476d1ce4e5b9 +
                  uint64_t(rank + 1) * 0x94d049bb133111eb;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  bits ^= bits >> 31;
  const float mantissa = float(bits & 0xffffff) / float(1 << 24) - 0.5f;
  return std::ldexp(mantissa, int(bits >> 58) - 32);
}

std::vector<float> samples(int rank, uint64_t seed, size_t count) {
  std::vector<float> result(count);
  for (size_t i = 0; i < count; ++i)
    result[i] = sample(rank, seed, i);
  return result;
}

std::vector<std::byte> bytes(int rank, uint64_t seed, size_t count) {
  std::vector<std::byte> result(count);
  for (size_t i = 0; i < count; ++i)
    result[i] = std::byte((i * 131 + seed * 7 + rank * 29 + (i >> 8)) & 0xff);
  return result;
}

/// The sum in the order of the group's list, one addition after the other.
std::vector<float> expectedSum(const Group &group, uint64_t seed, size_t count) {
  std::vector<float> sum = samples(group.ranks()[0], seed, count);
  for (size_t member = 1; member < group.size(); ++member)
    for (size_t i = 0; i < count; ++i)
      sum[i] += sample(group.ranks()[member], seed, i);
  return sum;
}

template <typename T> bool sameBits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && (a.empty() || !std::memcmp(a.data(), b.data(), a.size_bytes()));
}
template <typename T> bool sameBits(const std::vector<T> &a, const std::vector<T> &b) {
  return sameBits(std::span<const T>(a), std::span<const T>(b));
}

uint64_t sum(std::span<const uint64_t> counts, size_t members) {
  return std::accumulate(counts.begin(), counts.begin() + members, uint64_t(0));
}

std::vector<int> everyone(const Communicator &world) {
  std::vector<int> ranks(world.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

Result<std::unique_ptr<Group>> makeGroup(Communicator &world, std::vector<int> ranks) {
  return world.createGroup({.ranks = std::move(ranks), .maxBytes = kMaxBytes, .timeout = {}});
}

#define MAKE_GROUP(name, ranks)                                                                    \
  Result<std::unique_ptr<Group>> name##Made = makeGroup(world, ranks);                             \
  CHECK_OK(name##Made.status());                                                                   \
  Group &name = **name##Made

/// Counts per member: equal, growing, with zeros, and everything at one member.
std::vector<std::vector<uint64_t>> countPatterns(size_t members) {
  std::vector<std::vector<uint64_t>> patterns(6, std::vector<uint64_t>(members));
  for (size_t i = 0; i < members; ++i) {
    patterns[1][i] = 1;
    patterns[2][i] = 4096;
    patterns[3][i] = i * 37 + 5;
    patterns[4][i] = i % 2 ? 0 : 1001;
    patterns[5][i] = i + 1 == members ? 50'001 : 0;
  }
  return patterns;
}

std::string checkAllReduce(Communicator &world, Group &group, uint64_t seed, size_t count) {
  const std::vector<float> expected = expectedSum(group, seed, count);
  const std::vector<float> source = samples(world.rank(), seed, count);
  std::vector<float> result(count, -1.0f), inPlace = source;
  CHECK_OK(group.allReduceSum(source, result, "reduce"));
  CHECK(sameBits(result, expected));
  CHECK(sameBits(source, samples(world.rank(), seed, count)));
  CHECK_OK(group.allReduceSum(inPlace, inPlace, "reduce in place"));
  CHECK(sameBits(inPlace, expected));
  return {};
}

std::string checkReduceScatter(Communicator &world, Group &group, uint64_t seed,
                               const std::vector<uint64_t> &counts) {
  const size_t count = sum(counts, group.size());
  const uint64_t offset = sum(counts, group.index());
  const std::vector<float> all = expectedSum(group, seed, count);
  const auto expected = std::span(all).subspan(offset, counts[group.index()]);
  std::vector<float> source = samples(world.rank(), seed, count);
  std::vector<float> result(expected.size(), -1.0f);
  CHECK_OK(group.reduceScatterSum(source, counts, result, "scatter"));
  CHECK(sameBits(std::span<const float>(result), std::span<const float>(expected)));
  CHECK(sameBits(source, samples(world.rank(), seed, count)));
  const auto own = std::span(source).subspan(offset, expected.size());
  CHECK_OK(group.reduceScatterSum(source, counts, own, "scatter in place"));
  CHECK(sameBits(std::span<const float>(own), std::span<const float>(expected)));
  return {};
}

std::string checkAllGather(Communicator &world, Group &group, uint64_t seed,
                           const std::vector<uint64_t> &counts) {
  std::vector<std::byte> expected;
  for (size_t member = 0; member < group.size(); ++member) {
    const auto part = bytes(group.ranks()[member], seed, counts[member]);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  const std::vector<std::byte> source = bytes(world.rank(), seed, counts[group.index()]);
  std::vector<std::byte> result(expected.size());
  CHECK_OK(group.allGather(source, counts, result, "gather"));
  CHECK(sameBits(result, expected));
  std::fill(result.begin(), result.end(), std::byte(0xee));
  const auto own = std::span(result).subspan(sum(counts, group.index()), source.size());
  std::copy(source.begin(), source.end(), own.begin());
  CHECK_OK(group.allGather(own, counts, result, "gather in place"));
  CHECK(sameBits(result, expected));
  return {};
}

std::string checkAllToAll(Communicator &world, Group &group, uint64_t seed,
                          uint64_t (*countFrom)(int from, int to)) {
  const int me = world.rank();
  std::vector<uint64_t> sends, receives;
  std::vector<std::byte> source, expected;
  for (int other : group.ranks()) {
    sends.push_back(countFrom(me, other));
    receives.push_back(countFrom(other, me));
    const auto out = bytes(me, seed + other, sends.back());
    const auto in = bytes(other, seed + me, receives.back());
    source.insert(source.end(), out.begin(), out.end());
    expected.insert(expected.end(), in.begin(), in.end());
  }
  std::vector<std::byte> result(expected.size());
  CHECK_OK(group.allToAll(source, sends, result, receives, "all to all"));
  CHECK(sameBits(result, expected));
  return {};
}

std::string checkBroadcast(Communicator &world, Group &group, uint64_t seed, size_t count,
                           size_t root) {
  std::vector<std::byte> data = bytes(world.rank(), seed, count);
  CHECK_OK(group.broadcast(data, root, "broadcast"));
  CHECK(sameBits(data, bytes(group.ranks()[root], seed, count)));
  return {};
}

/// A little of everything.
std::string checkAll(Communicator &world, Group &group, uint64_t seed) {
  CHECK_EMPTY(checkAllReduce(world, group, seed, 1000 + seed));
  CHECK_OK(group.barrier("barrier"));
  CHECK_EMPTY(checkReduceScatter(world, group, seed, countPatterns(group.size())[3]));
  CHECK_EMPTY(checkAllGather(world, group, seed, countPatterns(group.size())[4]));
  CHECK_EMPTY(checkBroadcast(world, group, seed, 77, seed % group.size()));
  return checkAllToAll(world, group, seed,
                       [](int from, int to) { return uint64_t(from + 2 * to) % 5 * 13; });
}

std::string allReduce(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  uint64_t seed = 0;
  for (size_t count : {0, 1, 2, 3, 15, 16, 17, 1023, 1024, 1025, 5000, 300'007})
    CHECK_EMPTY(checkAllReduce(world, group, ++seed, count));
  return {};
}

std::string reduceScatter(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  uint64_t seed = 0;
  for (const auto &counts : countPatterns(group.size()))
    CHECK_EMPTY(checkReduceScatter(world, group, ++seed, counts));
  return {};
}

std::string allGather(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  uint64_t seed = 0;
  for (const auto &counts : countPatterns(group.size()))
    CHECK_EMPTY(checkAllGather(world, group, ++seed, counts));
  return {};
}

std::string allToAll(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  CHECK_EMPTY(checkAllToAll(world, group, 1, [](int, int) { return uint64_t(0); }));
  CHECK_EMPTY(checkAllToAll(world, group, 2, [](int, int) { return uint64_t(3); }));
  CHECK_EMPTY(checkAllToAll(world, group, 3, [](int from, int to) {
    return from > to ? uint64_t(0) : uint64_t(from * 100 + to);
  }));
  return checkAllToAll(world, group, 4, [](int from, int to) {
    return to == 0 ? uint64_t(70'001 + from) : uint64_t(0);
  });
}

std::string broadcast(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  for (size_t count : {0, 1, 63, 4097, 1'000'001})
    for (size_t root = 0; root<group.size(); root += count> 10'000 ? group.size() : 1)
      CHECK_EMPTY(checkBroadcast(world, group, count, count, root));
  return {};
}

// Evens and odds work side by side, then pairs, then everyone backwards: the order of the list,
// not of the ranks, rules parts and sums.
std::string subsets(Communicator &world) {
  std::vector<int> parity, pair, backwards;
  for (int rank = world.size(); rank-- > 0;) {
    backwards.push_back(rank);
    if (rank % 2 == world.rank() % 2)
      parity.push_back(rank);
    if (rank / 2 == world.rank() / 2)
      pair.push_back(rank);
  }
  MAKE_GROUP(parityGroup, parity);
  MAKE_GROUP(pairGroup, pair);
  MAKE_GROUP(backwardsGroup, backwards);
  MAKE_GROUP(alone, std::vector<int>{world.rank()});
  for (uint64_t seed = 0; seed < 3; ++seed) {
    CHECK_EMPTY(checkAll(world, parityGroup, seed));
    CHECK_EMPTY(checkAll(world, pairGroup, seed));
    CHECK_EMPTY(checkAll(world, backwardsGroup, seed));
    CHECK_EMPTY(checkAll(world, alone, seed));
  }
  return {};
}

std::string twinGroups(Communicator &world) {
  MAKE_GROUP(first, everyone(world));
  MAKE_GROUP(second, everyone(world));
  for (uint64_t seed = 0; seed < 3; ++seed) {
    CHECK_EMPTY(checkAll(world, second, seed));
    CHECK_EMPTY(checkAll(world, first, seed + 10));
  }
  return {};
}

// Many operations without a pause: a member that runs ahead must not disturb those that still read.
std::string backToBack(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  std::vector<float> values(257);
  for (int round = 0; round < 300; ++round) {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = float(world.rank() + round + int(i));
    CHECK_OK(group.allReduceSum(values, values, "round"));
    const int n = world.size();
    for (size_t i = 0; i < values.size(); ++i)
      CHECK(values[i] == float(n * (n - 1) / 2 + n * (round + int(i)))); // exact in float
    uint32_t token = world.rank() == round % n ? round + 1 : 0;
    CHECK_OK(group.broadcast(std::as_writable_bytes(std::span(&token, 1)), round % n, "token"));
    CHECK(token == uint32_t(round + 1));
  }
  return {};
}

std::string agreement(Communicator &world) {
  CHECK_OK(world.agree({}, "load"));
  const int last = world.size() - 1;
  // The lowest failing rank speaks, whatever the others say.
  const Status mine = world.rank() == last ? notFound("no such file") : Status();
  Status heard = world.agree(mine, "load");
  CHECK(heard.code() == StatusCode::kNotFound);
  CHECK(heard.where().rank == last);
  CHECK(heard.message() == format("rank %d: no such file", last));
  heard = world.agree(ioError(format("disk of %d", world.rank())), "load");
  CHECK(heard.code() == StatusCode::kIo);
  CHECK(heard.message() == "rank 0: disk of 0");
  heard = world.agree(world.rank() == 0 ? internalError(std::string(5000, 'x')) : Status(), "load");
  CHECK(heard.code() == StatusCode::kInternal && heard.message().size() > 500);
  CHECK_OK(world.agree({}, "load", std::chrono::milliseconds(30'000)));
  return {};
}

// Every rank makes the same mistake; nothing is sent and the world goes on.
std::string wrongArguments(Communicator &world) {
  const int size = world.size(), rank = world.rank();
  const auto refused = [&](std::vector<int> ranks) {
    return makeGroup(world, std::move(ranks)).status().code() == StatusCode::kInvalidArgument;
  };
  CHECK(refused({}));
  CHECK(refused({rank, rank}));
  CHECK(refused({rank, size}));
  CHECK(refused({rank, -1}));
  CHECK(size == 1 || refused({(rank + 1) % size}));

  MAKE_GROUP(group, everyone(world));
  const auto bad = [](const Status &status) {
    return status.code() == StatusCode::kInvalidArgument;
  };
  std::vector<float> a(8 * size), b(8 * size);
  const std::vector<uint64_t> eights(size, 8), huge(size, ~uint64_t(0)), few(size + 1, 8);
  const std::span<float> all(a), other(b);
  CHECK(bad(group.allReduceSum(all, other.first(3), "x")));
  CHECK(bad(group.allReduceSum(all.first(4), all.subspan(2, 4), "x")));
  CHECK(bad(group.reduceScatterSum(all, few, other.first(8), "x")));
  CHECK(bad(group.reduceScatterSum(all, huge, other.first(8), "x")));
  CHECK(bad(group.reduceScatterSum(all, eights, other.first(7), "x")));
  const auto notOwn = [&](auto buffer) { return buffer.subspan(rank > 0 ? 0 : 1, 8); };
  CHECK(size == 1 || bad(group.reduceScatterSum(all, eights, notOwn(all), "x")));
  const std::span<std::byte> bytesA = std::as_writable_bytes(all);
  const std::span<std::byte> bytesB = std::as_writable_bytes(other);
  CHECK(bad(group.allGather(bytesA.first(8), eights, bytesB, "x")));
  CHECK(bad(group.allGather(bytesA.first(7), eights, bytesB.first(8 * size), "x")));
  CHECK(bad(group.allToAll(bytesA, eights, bytesB.first(8 * size), eights, "x")));
  CHECK(bad(group.allToAll(bytesA.first(8 * size), eights, bytesA.first(8 * size), eights, "x")));
  CHECK(bad(group.broadcast(bytesA, size, "x")));
  std::vector<std::byte> tooMuch(kMaxBytes + 1);
  CHECK(bad(group.broadcast(tooMuch, 0, "x")));
  return checkAll(world, group, 1);
}

// Steps allocate nothing after load. What MPI takes for itself is not seen here. All threads are
// counted, so ranks do nothing else between the barriers.
std::string allocations(Communicator &world) {
  MAKE_GROUP(group, everyone(world));
  const size_t n = group.size();
  std::vector<float> values(n * 20'000, 1.0f), part(20'000);
  const std::vector<uint64_t> elements(n, 20'000), lengths(n, 80'000);
  std::vector<std::byte> data(n * 80'000), other(n * 80'000);
  const auto own = std::span(data).subspan(80'000 * group.index(), 80'000);
  CHECK_OK(group.barrier("all have prepared"));
  const uint64_t before = test::allocationCount();
  for (int round = 0; round < 3; ++round) {
    CHECK_OK(group.allReduceSum(values, values, "a label of more than a few characters"));
    CHECK_OK(group.reduceScatterSum(values, elements, part, "scatter"));
    CHECK_OK(group.allGather(own, lengths, data, "gather"));
    CHECK_OK(group.allToAll(data, lengths, other, lengths, "all to all"));
    CHECK_OK(group.broadcast(data, 0, "broadcast"));
    CHECK_OK(group.barrier("barrier"));
  }
  const uint64_t after = test::allocationCount();
  CHECK_OK(group.barrier("all have counted"));
  CHECK(after == before);
  const std::vector<int> counted(1);
  CHECK(test::allocationCount() > after); // the counter does count
  return {};
}

} // namespace

std::span<const Case> healthyCases() {
  static constexpr Case cases[] = {
      {"AllReduce", allReduce},     {"ReduceScatter", reduceScatter},
      {"AllGather", allGather},     {"AllToAll", allToAll},
      {"Broadcast", broadcast},     {"Subsets", subsets},
      {"TwinGroups", twinGroups},   {"BackToBack", backToBack},
      {"Agreement", agreement},     {"WrongArguments", wrongArguments},
      {"Allocations", allocations},
  };
  return cases;
}

} // namespace sluice::conformance
