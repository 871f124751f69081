//===- RanksTest.cpp - Plans of several ranks -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The model of ArtifactBuilder cut for several ranks gives what it gives on one, up to the order of
// sums. All ranks live in this process here; MpiEngineTest.cpp has one process per rank.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Artifact.h"
#include "runtime/executor/LaunchObserver.h"
#include "runtime/executor/RankTeam.h"
#include "sluice/engine.h"
#include "sluice/generator.h"
#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"
#include "test/runtime/executor/AllocationCounter.h"
#include "test/runtime/executor/StepScript.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <thread>
#include <unistd.h>

namespace sluice {
namespace {

using testing::HasSubstr;

class RanksTest : public testing::Test {
protected:
  std::unique_ptr<Engine> load(const test::TinyShape &shape, LoadOptions options = {}) {
    const std::string path = dir.file("tiny.sluice");
    options.collectives = "local";
    Status written = test::writeArtifact(path, test::makeTinyModel(shape));
    EXPECT_TRUE(written.isOk()) << written.toString();
    auto loaded = Engine::load(path, options);
    EXPECT_TRUE(loaded.isOk()) << loaded.status().toString();
    return loaded.isOk() ? std::move(*loaded) : nullptr;
  }

  test::TempDir dir;
};

TEST(RankTeam, EveryMemberRunsOnItsOwnThread) {
  for (int size : {1, 2, 5}) {
    auto team = RankTeam::create(size);
    ASSERT_TRUE(team.isOk());
    std::vector<std::thread::id> first(static_cast<size_t>(size)), again(first);
    std::atomic<int> inside{0};
    (*team)->run([&](int member) {
      first[size_t(member)] = std::this_thread::get_id();
      ++inside;
      while (inside < size) // hangs unless all are here at once
        std::this_thread::yield();
    });
    (*team)->run([&](int member) { again[size_t(member)] = std::this_thread::get_id(); });
    EXPECT_EQ(first, again);
    EXPECT_EQ(first[0], std::this_thread::get_id());
    std::sort(first.begin(), first.end());
    EXPECT_EQ(std::unique(first.begin(), first.end()), first.end());
  }
}

struct Split {
  int ranks, ep, dp;
};

class ManyRanksTest : public RanksTest, public testing::WithParamInterface<Split> {};
INSTANTIATE_TEST_SUITE_P(Splits, ManyRanksTest,
                         testing::Values(Split{2, 1, 1}, Split{3, 1, 1}, Split{4, 1, 1},
                                         Split{2, 1, 2}, Split{3, 1, 3}, Split{4, 1, 2},
                                         Split{2, 2, 1}, Split{4, 2, 2}, Split{4, 4, 4}),
                         [](const auto &info) {
                           return std::to_string(info.param.ranks) + "Ranks" +
                                  std::to_string(info.param.ep) + "Ep" +
                                  std::to_string(info.param.dp) + "Dp";
                         });

TEST_P(ManyRanksTest, GivesWhatOneRankGives) {
  test::TinyShape shape{.layers = 2, .expertWidth = 192};
  auto single = load(shape);
  ASSERT_TRUE(single);
  const Split split = GetParam();
  shape.ranks = split.ranks;
  shape.ep = split.ep;
  shape.dp = split.dp;
  auto engine = load(shape);
  ASSERT_TRUE(engine);
  const EngineInfo &info = engine->info();
  EXPECT_EQ(info.numRanks, shape.ranks);
  EXPECT_EQ(info.firstRank, 0);
  EXPECT_EQ(info.numLocalRanks, shape.ranks);
  EXPECT_EQ(info.tp, shape.ranks / shape.ep);
  EXPECT_EQ(info.ep, shape.ep);
  EXPECT_EQ(info.dp, shape.dp);
  test::expectSameSteps(*engine, *single);
  EXPECT_EQ(engine->expertCounts(), single->expertCounts());
  EXPECT_EQ(engine->telemetry().distinctExperts, single->telemetry().distinctExperts);
}

TEST_F(RanksTest, StepsAllocateNothing) {
  auto engine = load({.expertWidth = 64, .ranks = 4, .dp = 2});
  ASSERT_TRUE(engine);
  const std::vector<int32_t> prompt = {3, 1, 4, 1, 5}, token = {9};
  std::vector<StepEntry> entries;
  for (int i = 0; i < 3; ++i)
    entries.push_back({.sequence = *engine->createSequence(),
                       .tokens = i == 0 ? prompt : token,
                       .sample = true,
                       .sampling = {}});
  std::vector<StepOutput> outputs(3);
  const uint64_t before = test::allocationCount();
  for (int i = 0; i < 5; ++i) {
    Status status = engine->step(entries, outputs);
    ASSERT_TRUE(status.isOk()) << status.toString();
    entries[0].tokens = token;
  }
  EXPECT_EQ(test::allocationCount(), before);
}

TEST_F(RanksTest, SequencesGoWherePagesAre) {
  auto engine = load({.expertWidth = 32, .numPages = 12, .ranks = 2, .dp = 2});
  ASSERT_TRUE(engine);
  EXPECT_EQ(engine->freePages(), 24);
  const SequenceId a = *engine->createSequence(), b = *engine->createSequence(),
                   c = *engine->createSequence();
  EXPECT_EQ(engine->groupOf(a), 0); // equal pages, equal sequences: the first
  EXPECT_EQ(engine->groupOf(b), 1); // fewer sequences
  EXPECT_EQ(engine->groupOf(c), 0);
  const std::vector<int32_t> tokens(16, 7);
  auto run = [&](SequenceId sequence, size_t count) {
    StepEntry entry{.sequence = sequence,
                    .tokens = std::span(tokens).first(count),
                    .logitRows = 0,
                    .sampling = {}};
    StepOutput output;
    return engine->step({&entry, 1}, {&output, 1});
  };
  ASSERT_TRUE(run(b, 16).isOk());
  EXPECT_EQ(engine->freePagesOf(0), 12);
  EXPECT_EQ(engine->freePagesOf(1), 8);
  const SequenceId d = *engine->createSequence();
  EXPECT_EQ(engine->groupOf(d), 0); // more free pages, whatever its sequences
  EXPECT_EQ(engine->createSequence().status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(engine->groupOf(99), -1);

  // Pages of the other group do not help.
  for (int i = 0; i < 2; ++i)
    ASSERT_TRUE(run(a, 16).isOk());
  ASSERT_TRUE(run(c, 16).isOk());
  EXPECT_EQ(engine->freePagesOf(0), 0);
  Status status = run(d, 5);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the step needs 2 KV pages of group 0, but 0 of 12 are free"));
  EXPECT_EQ(engine->sequenceLength(d), 0);
  engine->releaseSequence(c);
  EXPECT_EQ(engine->freePagesOf(0), 4);
  EXPECT_TRUE(run(d, 5).isOk());
}

TEST_F(RanksTest, ManyRequestsShareTheGroups) {
  test::TinyShape shape{.expertWidth = 32, .numPages = 12};
  std::vector<std::vector<int32_t>> results[2];
  for (int ranks : {1, 2}) {
    shape.ranks = shape.dp = ranks;
    auto engine = load(shape);
    ASSERT_TRUE(engine);
    Generator generator(*engine);
    std::vector<RequestId> ids;
    for (int i = 0; i < 9; ++i) {
      GenerateRequest request;
      request.prompt.assign(size_t(3 + 4 * i), 5 + i);
      request.maxNewTokens = 4 + i % 3;
      ids.push_back(*generator.submit(std::move(request)));
    }
    Status status = generator.run();
    ASSERT_TRUE(status.isOk()) << status.toString();
    for (RequestId id : ids)
      results[ranks - 1].push_back(generator.take(id)->tokens);
    EXPECT_EQ(engine->freePages(), 12 * ranks);
  }
  EXPECT_EQ(results[0], results[1]);
}

/// Holds up the first launch until it is told to go on.
class Stall : public LaunchObserver {
public:
  void launched(const ObservedLaunch &) override { goOn.wait(false); }
  std::atomic<bool> goOn{false};
};

TEST_F(RanksTest, ARankThatDoesNotComeBreaksTheEngine) {
  auto engine = load({.expertWidth = 32, .ranks = 2}, {.collectiveTimeout = 0.1});
  ASSERT_TRUE(engine);
  const SequenceId sequence = *engine->createSequence();
  const std::vector<int32_t> tokens = {1, 2, 3};
  StepEntry entry{.sequence = sequence, .tokens = tokens, .sampling = {}};
  StepOutput output;
  ASSERT_TRUE(engine->step({&entry, 1}, {&output, 1}).isOk());
  Stall stall;
  ASSERT_TRUE(observeLaunches(*engine, &stall).isOk());
  std::thread release([&] { // long after the other rank has given up
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    stall.goOn = true;
    stall.goOn.notify_all();
  });
  Status status = engine->step({&entry, 1}, {&output, 1});
  release.join();
  EXPECT_EQ(status.code(), StatusCode::kAborted) << status.toString();
  EXPECT_GE(status.where().rank, 0);
  EXPECT_GE(status.where().planOp, 0);
  Status again = engine->step({&entry, 1}, {&output, 1});
  EXPECT_EQ(again.code(), StatusCode::kAborted);
  EXPECT_THAT(std::string(again.message()),
              HasSubstr("the engine is broken since an earlier step failed ("));
}

TEST_F(RanksTest, LoadOptionsAreChecked) {
  const std::string path = dir.file("tiny.sluice");
  auto message = [&](LoadOptions options) {
    return std::string(Engine::load(path, options).status().message());
  };
  EXPECT_THAT(message({.collectives = "nccl"}),
              HasSubstr("collectives is \"nccl\"; the choices are: auto, local, mpi"));
  EXPECT_THAT(message({.collectiveTimeout = 0}), HasSubstr("outside [0.001, 1000000]"));
  EXPECT_THAT(message({.collectiveTimeout = std::numeric_limits<double>::quiet_NaN()}),
              HasSubstr("the time-out of collectives is nan seconds"));
  ASSERT_TRUE(
      test::writeArtifact(path, test::makeTinyModel({.expertWidth = 32, .ranks = 2})).isOk());
  EXPECT_THAT(message({.collectives = "mpi"}), HasSubstr("start it as mpirun -n 2"));
}

TEST_F(RanksTest, ProcessesOfOneRankNeedItsWeightsOnly) {
  ASSERT_TRUE(
      test::writeArtifact(dir.file("tiny"), test::makeTinyModel({.expertWidth = 32, .ranks = 2}))
          .isOk());
  std::filesystem::remove(dir.file("tiny/weights/rank-0.safetensors"));
  EXPECT_EQ(Artifact::open(dir.file("tiny")).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(Artifact::open(dir.file("tiny"), {.rank = 1}).isOk());
  EXPECT_EQ(Artifact::open(dir.file("tiny"), {.rank = 0}).status().code(), StatusCode::kNotFound);
  EXPECT_THAT(
      std::string(Artifact::open(dir.file("tiny"), {.rank = 1, .processes = 3}).status().message()),
      HasSubstr("is a plan of 2 ranks, but 3 processes were started; start 2 (mpirun -n 2) "
                "or compile with --ranks=3"));
}

/// Instrumentation has memory of its own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kInstrumented = true;
#elif defined(__has_feature)
constexpr bool kInstrumented = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kInstrumented = false;
#endif

/// Resident bytes of this process.
int64_t residentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST_F(RanksTest, MemoryIsWhatThePlanSays) {
  // Caches of 32 MiB per rank, next to little else.
  const test::TinyShape shape{.hidden = 16,
                              .heads = 8,
                              .kvHeads = 8,
                              .headDim = 128,
                              .expertWidth = 32,
                              .maxBatchTokens = 4096,
                              .maxSeqs = 256,
                              .maxSeqLen = 16,
                              .maxLogitRows = 1,
                              .pageSize = 16,
                              .numPages = 256,
                              .buckets = {4096},
                              .ranks = 2};
  const test::TinyModel model = test::makeTinyModel(shape);
  { // what the program itself takes: code, allocator, the records of a plan
    test::TinyShape small = shape;
    small.numPages = small.maxSeqs = 16;
    small.maxBatchTokens = small.buckets[0] = 256;
    auto engine = load(small, {.threads = 2});
    ASSERT_TRUE(engine);
  }
  const int64_t before = residentBytes();
  auto engine = load(shape, {.threads = 2});
  ASSERT_TRUE(engine);
  const auto grown = static_cast<double>(residentBytes() - before);
  uint64_t predicted = 0;
  for (int rank = 0; rank < 2; ++rank) {
    const RankMemory memory = engine->rankMemory(rank);
    const auto &slabs = model.plan.ranks(rank).slabs();
    EXPECT_EQ(memory.weights, slabs[proto::Slab::WEIGHTS].bytes());
    EXPECT_EQ(memory.kv, slabs[proto::Slab::KV].bytes());
    EXPECT_EQ(memory.arena, slabs[proto::Slab::ARENA].bytes());
    EXPECT_EQ(memory.io, slabs[proto::Slab::IO].bytes());
    predicted += memory.weights + memory.kv + memory.arena + memory.io;
  }
  EXPECT_EQ(engine->rankMemory(2).kv, 0u);
  EXPECT_EQ(engine->info().kvBytes, 2u * 256 * 16 * 8 * 128 * 4 * 2);
  if (!kInstrumented) {
    EXPECT_NEAR(grown / double(predicted), 1, 0.01) << grown << " of " << predicted;
  }
}

} // namespace
} // namespace sluice
