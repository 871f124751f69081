//===- LocalCollectivesTest.cpp - The suite on threads ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/collectives/Conformance.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

using namespace sluice;
using namespace sluice::conformance;

namespace {

/// Runs `body` on one thread per rank; a rank leaves the world when its body returns. Returns all
/// findings.
std::string runRanks(int size, std::chrono::milliseconds timeout,
                     const std::function<std::string(Communicator &)> &body) {
  CollectiveBackends backends;
  registerAllCollectives(backends);
  Result<Communicators> world = backends.connect("local", {.worldSize = size, .timeout = timeout});
  if (!world.isOk())
    return world.status().toString();
  std::vector<std::string> findings(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      findings[rank] = body(*(*world)[rank]);
      (*world)[rank].reset();
    });
  for (std::thread &thread : threads)
    thread.join();
  std::string all;
  for (const std::string &finding : findings)
    all += finding.empty() ? "" : finding + "\n";
  return all;
}

class Local : public testing::TestWithParam<int> {};

TEST_P(Local, Conforms) {
  for (const Case &one : healthyCases())
    EXPECT_EQ(runRanks(GetParam(), std::chrono::seconds(60), one.run), "") << one.name;
}

TEST_P(Local, BarrierHoldsEveryoneBack) {
  const int size = GetParam();
  std::atomic<int> came = 0;
  EXPECT_EQ(runRanks(size, std::chrono::seconds(60),
                     [&](Communicator &world) -> std::string {
                       std::vector<int> ranks(size);
                       for (int rank = 0; rank < size; ++rank)
                         ranks[rank] = rank;
                       auto group =
                           world.createGroup({.ranks = ranks, .maxBytes = 0, .timeout = {}});
                       for (int round = 1; round <= 100; ++round) {
                         ++came;
                         if (!(*group)->barrier("in").isOk() || came < round * size)
                           return "someone was let through";
                         if (!(*group)->barrier("out").isOk())
                           return "no way out";
                       }
                       return "";
                     }),
            "");
}

INSTANTIATE_TEST_SUITE_P(Worlds, Local, testing::Values(1, 2, 3, 4, 8),
                         [](const auto &info) { return std::to_string(info.param); });

class LocalFault : public testing::TestWithParam<int> {};

// Without the silent rank's peers gone, it would not be late: it waits until they have all left.
std::atomic<int> ranksLeft;

TEST_P(LocalFault, ReachesEveryRank) {
  const int size = GetParam();
  for (const Fault &fault : faults()) {
    ranksLeft = size;
    EXPECT_EQ(runRanks(size, kFaultWorldTimeout,
                       [&](Communicator &world) {
                         std::string finding = fault.run(world, [] {
                           while (ranksLeft > 1)
                             std::this_thread::yield();
                         });
                         --ranksLeft;
                         return finding;
                       }),
              "")
        << fault.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, LocalFault, testing::Values(2, 3, 8),
                         [](const auto &info) { return std::to_string(info.param); });

TEST(LocalCollectives, AbortMayComeFromAnotherThread) {
  CollectiveBackends backends;
  registerAllCollectives(backends);
  Result<Communicators> world = backends.connect("local", {.worldSize = 2});
  ASSERT_TRUE(world.isOk());
  Status heard;
  std::thread waiter([&] { heard = (*world)[0]->agree({}, "load"); });
  (*world)[0]->abort(Status(StatusCode::kAborted, "interrupted"));
  waiter.join();
  EXPECT_EQ(heard.code(), StatusCode::kAborted);
  EXPECT_NE(heard.message().find("interrupted"), std::string_view::npos) << heard.toString();
}

TEST(CollectiveBackends, NamesAreUniqueAndKnown) {
  CollectiveBackends backends;
  registerAllCollectives(backends);
  EXPECT_EQ(backends.names(), (std::vector<std::string>{"local", "mpi"}));
  EXPECT_EQ(backends.add("local", {}).code(), StatusCode::kInvalidArgument);
  const Status unknown = backends.connect("pigeon", {}).status();
  EXPECT_EQ(unknown.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.message().find("local, mpi"), std::string_view::npos);
  EXPECT_EQ(backends.connect("local", {.worldSize = 0}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(backends.connect("local", {.timeout = std::chrono::milliseconds(0)}).status().code(),
            StatusCode::kInvalidArgument);
}

} // namespace
