//===- MpiEngineTest.cpp - An engine of many processes ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Starts sluice_mpi_engine_worker under mpirun and reads what its ranks say. The parameters keep
// Open MPI within this machine, as in MpiCollectivesTest.cpp.
//
//===------------------------------------------------------------------------===//
#include <array>
#include <cstdio>
#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>

namespace {

class MpiEngine : public testing::Test {
protected:
  void SetUp() override {
    if (std::string(SLUICE_MPIEXEC).empty())
      GTEST_SKIP() << "this build has no MPI (see SLUICE_MPI)";
  }

  /// Runs the worker; all ranks must pass.
  void expectPass(int size, const std::string &mode, int groups) {
    const std::string command = "ASAN_OPTIONS=detect_leaks=0 " SLUICE_MPIEXEC
                                " --allow-run-as-root --oversubscribe --bind-to none"
                                " --mca plm isolated --mca pml ob1 --mca btl self,vader"
                                " --mca btl_vader_single_copy_mechanism none -n " +
                                std::to_string(size) +
                                " " SLUICE_BINARY_DIR "/bin/sluice_mpi_engine_worker " + mode +
                                " " + std::to_string(groups) + " 2>&1";
    FILE *pipe = popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string output;
    std::array<char, 4096> block;
    while (const size_t got = std::fread(block.data(), 1, block.size(), pipe))
      output.append(block.data(), got);
    const int status = pclose(pipe);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << output;
    for (int rank = 0; rank < size; ++rank)
      EXPECT_NE(output.find("rank " + std::to_string(rank) + ": passed"), std::string::npos)
          << output;
  }
};

TEST_F(MpiEngine, ExpertsInParts) { expectPass(3, "steps", 1); }
TEST_F(MpiEngine, GroupsOfRanks) { expectPass(4, "steps", 2); }
TEST_F(MpiEngine, OneRanksLoadErrorIsEverybodys) { expectPass(2, "corrupt", 1); }
TEST_F(MpiEngine, ARankThatLeavesBreaksTheOthersSteps) { expectPass(2, "absent", 1); }

} // namespace
