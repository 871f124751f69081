//===- ThreadPoolTest.cpp - Fork-join threads ------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Coverage without overlap for many sizes, reuse in quick succession and after the workers have
// gone to sleep, and an idle pool going to sleep.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/ThreadPool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace sluice::host {
namespace {

TEST(ThreadPool, PartsCoverTheRangeOnce) {
  ThreadPool pool(4);
  ASSERT_EQ(pool.size(), 4);
  for (int64_t count : {0, 1, 2, 7, 64, 1000}) {
    for (int64_t grain : {0, 1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
      std::atomic<bool> valid{true};
      pool.parallelFor(count, grain, [&](int64_t begin, int64_t end, int worker) {
        if (begin >= end || worker < 0 || worker >= 4 ||
            (count > grain && end - begin > std::max<int64_t>(grain, 1)))
          valid = false;
        for (int64_t i = begin; i < end; ++i)
          ++hits[size_t(i)];
      });
      EXPECT_TRUE(valid) << count << " by " << grain;
      EXPECT_TRUE(std::all_of(hits.begin(), hits.end(), [](auto &hit) { return hit == 1; }));
    }
  }
}

TEST(ThreadPool, OneThreadRunsInTheCaller) {
  ThreadPool pool(1);
  auto caller = std::this_thread::get_id();
  int calls = 0;
  pool.parallelFor(10, 1, [&](int64_t begin, int64_t end, int worker) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(worker, 0);
    EXPECT_EQ(end - begin, 10);
    ++calls;
  });
  EXPECT_EQ(calls, 1);
}

TEST(ThreadPool, DefaultSizeIsThatOfTheAffinityMask) {
  ThreadPool pool;
  EXPECT_GE(pool.size(), 1);
  EXPECT_LE(pool.size(), int(std::max(1u, std::thread::hardware_concurrency())));
}

TEST(ThreadPool, ManyRegionsInSuccession) {
  ThreadPool pool(3);
  int64_t expected = 0;
  std::atomic<int64_t> sum{0};
  for (int region = 0; region < 5000; ++region) {
    int64_t count = 2 + region % 13;
    pool.parallelFor(count, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    expected += count;
    ASSERT_EQ(sum, expected);
  }
}

TEST(ThreadPool, SleepersWakeUp) {
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    // Two items that wait for each other: both must run at once, so a worker has to wake up.
    std::atomic<int> arrived{0};
    pool.parallelFor(2, 1, [&](int64_t, int64_t, int) {
      ++arrived;
      while (arrived < 2)
        std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
  }
}

/// States of the process's threads other than the caller, one letter each ("R" runs, "S" sleeps).
std::string otherThreadStates() {
  std::string states;
  for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(gettid()))
      continue;
    std::string stat;
    std::getline(std::ifstream(task.path() / "stat"), stat);
    size_t name = stat.rfind(") "); // the name before it may hold anything
    if (name != std::string::npos)
      states += stat[name + 2];
  }
  return states;
}

TEST(ThreadPool, IdleWorkersSleep) {
  ThreadPool pool(4);
  pool.parallelFor(4, 1, [](int64_t, int64_t, int) {});
  // The deadline only ends a failing test: a worker that polls for ever never shows as sleeping.
  auto allSleep = [] { return otherThreadStates().find_first_not_of('S') == std::string::npos; };
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!allSleep() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(allSleep()) << otherThreadStates();
}

} // namespace
} // namespace sluice::host
