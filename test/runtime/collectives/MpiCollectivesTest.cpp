//===- MpiCollectivesTest.cpp - The suite under mpirun ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Starts sluice_mpi_worker under mpirun and reads what its ranks say. The parameters keep Open MPI
// within this machine: no remote shell, no network, no binding to cores, more ranks than cores,
// root allowed (containers), and no copying between address spaces, which containers forbid.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/mpi/MpiCommunicator.h"
#include "runtime/collectives/mpi/MpiLoader.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/wait.h>

using namespace sluice;

namespace {

struct Outcome {
  int exitCode = -1;
  std::string output;
};

Outcome mpirun(int size, const std::string &extra, const std::string &arguments) {
  const std::string command =
      // The launcher's and MPI's own leaks are not ours to find in sanitized builds.
      "ASAN_OPTIONS=detect_leaks=0 " SLUICE_MPIEXEC
      " --allow-run-as-root --oversubscribe --bind-to none"
      " --mca plm isolated --mca pml ob1 --mca btl self,vader"
      " --mca btl_vader_single_copy_mechanism none " +
      extra + " -n " + std::to_string(size) + " " SLUICE_BINARY_DIR "/bin/sluice_mpi_worker " +
      arguments + " 2>&1";
  Outcome outcome;
  FILE *pipe = popen(command.c_str(), "r");
  if (!pipe)
    return outcome;
  std::array<char, 4096> block;
  while (const size_t got = std::fread(block.data(), 1, block.size(), pipe))
    outcome.output.append(block.data(), got);
  const int status = pclose(pipe);
  if (WIFEXITED(status))
    outcome.exitCode = WEXITSTATUS(status);
  return outcome;
}

int passedRanks(const Outcome &outcome, int size) {
  int passed = 0;
  for (int rank = 0; rank < size; ++rank)
    passed += outcome.output.find("rank " + std::to_string(rank) + ": passed") != std::string::npos;
  return passed;
}

class Mpi : public testing::Test {
protected:
  void SetUp() override {
    if (std::string(SLUICE_MPIEXEC).empty())
      GTEST_SKIP() << "this build has no MPI (see SLUICE_MPI)";
  }
};

class MpiSizes : public Mpi, public testing::WithParamInterface<int> {};

TEST_P(MpiSizes, Conforms) {
  const int size = GetParam();
  const Outcome outcome = mpirun(size, "", std::to_string(size) + " healthy");
  EXPECT_EQ(outcome.exitCode, 0) << outcome.output;
  EXPECT_EQ(passedRanks(outcome, size), size) << outcome.output;
}

INSTANTIATE_TEST_SUITE_P(Worlds, MpiSizes, testing::Values(1, 2, 3, 4, 8),
                         [](const auto &info) { return std::to_string(info.param); });

class MpiFaults : public Mpi, public testing::WithParamInterface<const char *> {};

// A world of which all ranks can still be told ends in good order, each with the documented code.
TEST_P(MpiFaults, ReachEveryRank) {
  const Outcome outcome = mpirun(3, "", std::string("3 ") + GetParam());
  EXPECT_EQ(passedRanks(outcome, 3), 3) << outcome.output;
  EXPECT_EQ(outcome.exitCode, int(StatusCode::kAborted)) << outcome.output;
}

INSTANTIATE_TEST_SUITE_P(Worlds, MpiFaults,
                         testing::Values("Reports", "ReportsToIdlers", "ReportsToOtherGroups",
                                         "Leaves", "Disagrees"),
                         [](const auto &info) { return std::string(info.param); });

TEST_F(Mpi, SilentRankIsGivenUp) {
  const Outcome outcome = mpirun(3, "", "3 IsSilent");
  for (const char *line : {"rank 0: passed", "rank 1: passed"})
    EXPECT_NE(outcome.output.find(line), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.exitCode, 0);
}

// mpirun ends a job whose rank dies; told not to, the others must notice by themselves.
TEST_F(Mpi, DeadRankIsGivenUp) {
  const Outcome outcome = mpirun(2, "--enable-recovery", "2 Dies");
  EXPECT_EQ(outcome.output.find("expected an error"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("rank 0: passed"), std::string::npos) << outcome.output;
}

TEST_F(Mpi, WrongNumberOfRanksIsRefused) {
  const Outcome outcome = mpirun(1, "", "2 healthy");
  EXPECT_EQ(outcome.exitCode, int(StatusCode::kInvalidArgument)) << outcome.output;
  EXPECT_NE(outcome.output.find("start it as mpirun -n 2"), std::string::npos) << outcome.output;
}

class MpiEnvironment : public testing::Test {
protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char *name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
                             "SLUICE_MPI_MODULE"})
      unsetenv(name);
  }
};

TEST_F(MpiEnvironment, LaunchIsDetected) {
  EXPECT_FALSE(detectMpiLaunch());
  setenv("PMI_RANK", "1", 1);
  EXPECT_FALSE(detectMpiLaunch());
  setenv("PMI_SIZE", "2", 1);
  ASSERT_TRUE(detectMpiLaunch());
  EXPECT_EQ(detectMpiLaunch()->variable, "PMI_SIZE");
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  EXPECT_EQ(detectMpiLaunch()->rank, 3);
  EXPECT_EQ(detectMpiLaunch()->size, 4);
  setenv("OMPI_COMM_WORLD_SIZE", "4x", 1);
  EXPECT_EQ(detectMpiLaunch()->size, 2);
}

TEST_F(MpiEnvironment, NoLaunchIsAnError) {
  const Status status = connectMpi({.worldSize = 2}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("mpirun -n 2"), std::string_view::npos) << status.toString();
}

TEST_F(MpiEnvironment, MissingModuleIsAnError) {
  setenv("SLUICE_MPI_MODULE", "/nowhere/libsluice_mpi.so", 1);
  const Status status = loadMpiModule().status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("/nowhere/libsluice_mpi.so"), std::string_view::npos);
}

TEST_F(MpiEnvironment, ForeignModuleIsRefused) {
  setenv("SLUICE_MPI_MODULE", "libm.so.6", 1);
  EXPECT_EQ(loadMpiModule().status().code(), StatusCode::kDataCorrupt);
}

} // namespace
