//===- MpiEngineWorker.cpp - One rank of an engine, for tests ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// usage: mpirun -n RANKS sluice_mpi_engine_worker MODE GROUPS
// Every process writes the same tiny model to a folder of its own and loads it as one of the ranks.
// MODE says what happens then:
//   steps     the steps of StepScript.h, compared with a single rank in this process
//   corrupt   rank 1 finds its weights damaged: loading fails alike on all
//   absent    rank 1 does not take part in the second step: the others' step fails
// Prints "rank N: passed" when all came as it should.
//
//===------------------------------------------------------------------------===//
#include "sluice/engine.h"

#include "runtime/collectives/mpi/MpiCommunicator.h"
#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"
#include "test/runtime/executor/StepScript.h"

#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

using namespace sluice;

namespace {

std::string mode;
int groups = 1;

void damage(const std::string &file) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(5000);
  stream.put('\x7f');
}

TEST(Worker, Runs) {
  const auto launch = detectMpiLaunch();
  ASSERT_TRUE(launch);
  test::TinyShape shape{.layers = 2, .expertWidth = 192};
  test::TempDir dir;
  const std::string one = dir.file("one"), many = dir.file("many");
  ASSERT_TRUE(test::writeArtifact(one, test::makeTinyModel(shape)).isOk());
  shape.ranks = launch->size;
  shape.dp = groups;
  ASSERT_TRUE(test::writeArtifact(many, test::makeTinyModel(shape)).isOk());
  if (mode == "corrupt" && launch->rank == 1)
    damage(many + "/weights/rank-1.safetensors");

  auto engine =
      Engine::load(many, {.threads = 1, .collectiveTimeout = mode == "absent" ? 1. : 60.});
  if (mode == "corrupt") {
    EXPECT_EQ(engine.status().code(), StatusCode::kDataCorrupt) << engine.status().toString();
    EXPECT_EQ(engine.status().where().rank, 1);
    return;
  }
  ASSERT_TRUE(engine.isOk()) << engine.status().toString();
  const EngineInfo &info = (*engine)->info();
  EXPECT_EQ(info.numRanks, launch->size);
  EXPECT_EQ(info.firstRank, launch->rank);
  EXPECT_EQ(info.numLocalRanks, 1);
  EXPECT_EQ((*engine)->rankMemory(launch->rank).kv, info.kvBytes);
  EXPECT_EQ((*engine)->rankMemory(launch->size).kv, 0u);

  if (mode == "steps") {
    auto reference = Engine::load(one, {.threads = 1, .collectives = "local"});
    ASSERT_TRUE(reference.isOk()) << reference.status().toString();
    test::expectSameSteps(**engine, **reference);
    EXPECT_TRUE((*engine)->agree(Status::ok()).isOk());
    Status other = (*engine)->agree(launch->rank == 1 ? notFound("a file") : Status::ok());
    EXPECT_EQ(other.code(), StatusCode::kNotFound);
    return;
  }
  const std::vector<int32_t> tokens = {1, 2, 3};
  StepEntry entry{.sequence = *(*engine)->createSequence(), .tokens = tokens, .sampling = {}};
  StepOutput output;
  ASSERT_TRUE((*engine)->step({&entry, 1}, {&output, 1}).isOk());
  if (launch->rank == 1)
    return; // and leaves
  for (int i = 0; i < 2; ++i) {
    Status status = (*engine)->step({&entry, 1}, {&output, 1});
    EXPECT_EQ(status.code(), StatusCode::kAborted) << status.toString();
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODE GROUPS\n", argv[0]);
    return 2;
  }
  mode = argv[1];
  groups = std::atoi(argv[2]);
  testing::InitGoogleTest();
  if (RUN_ALL_TESTS() != 0)
    return 1;
  const auto launch = detectMpiLaunch();
  std::printf("rank %d: passed\n", launch ? launch->rank : -1);
  return 0;
}
