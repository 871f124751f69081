//===- TargetTest.cpp - Target descriptions and their reader ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/target/Target.h"

#include "compiler/target/EmbeddedTargets.h"

#include <gmock/gmock.h>

using namespace sluice;
using testing::HasSubstr;

namespace {

/// The description of a target of this build.
std::string descriptionOf(std::string_view wanted) {
  for (const auto &[name, text] : embeddedTargets())
    if (name == wanted)
      return std::string(text);
  return "";
}

std::string replaced(std::string text, const std::string &from, const std::string &to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string errorOf(const std::string &text) {
  Result<Target> target = parseTarget(text, "t.json");
  return target.isOk() ? "" : target.status().toString();
}

} // namespace

TEST(Target, EveryDescriptionIsComplete) {
  EXPECT_THAT(targetNames(), testing::ElementsAre("host", "a100", "h100", "h200", "b200", "gh200",
                                                  "gb200-nvl72", "mi300x"));
  for (const std::string &name : targetNames()) {
    Result<Target> target = findTarget(name);
    ASSERT_TRUE(target.isOk()) << name << ": " << target.status().toString();
    EXPECT_EQ(target->name, name);
    EXPECT_GT(target->usableBytes, uint64_t(1) << 29) << name;
    EXPECT_GT(target->peakFor("bf16"), 0) << name;
    if (target->kind != "host") {
      // What is sold is more than what can be used, but not by much.
      EXPECT_LT(double(target->usableBytes), 1.08 * double(target->datasheetBytes)) << name;
      EXPECT_GT(double(target->usableBytes), 0.95 * double(target->datasheetBytes)) << name;
    }
  }
}

TEST(Target, NamesSayHowManyDevices) {
  struct Case {
    const char *name;
    int64_t perNode, nodes;
  };
  for (auto [name, perNode, nodes] : {Case{"h100x8", 8, 1},
                                      {"h100x8x4", 8, 4},
                                      {"h100x32", 8, 4},
                                      {"h200x3", 3, 1},
                                      {"gb200-nvl72", 72, 1},
                                      {"gb200-nvl72x2", 72, 2},
                                      {"gh200x4", 1, 4},
                                      {"mi300x8", 8, 1},
                                      {"mi300x8x2", 8, 2},
                                      {"mi300xx8", 8, 1}}) {
    Result<Target> target = findTarget(name);
    ASSERT_TRUE(target.isOk()) << target.status().toString();
    EXPECT_EQ(target->devicesPerNode, perNode) << name;
    EXPECT_EQ(target->nodes, nodes) << name;
    EXPECT_TRUE(target->countIsFixed) << name;
  }
  EXPECT_FALSE(findTarget("h100")->countIsFixed);
}

TEST(Target, UnknownNamesListTheKnownOnes) {
  for (const char *name : {"", "h10", "h1000", "h100y8", "h100x", "h100x0", "h100x-1", "h100x8x",
                           "h100x12", "h100x8x4x2", "h100x9999999", "gb200-nvl72x2x2"}) {
    Result<Target> target = findTarget(name);
    ASSERT_FALSE(target.isOk()) << name;
    EXPECT_EQ(target.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(target.status().message()), HasSubstr("known are host, a100"));
  }
}

TEST(Target, RanksFillNodes) {
  Target open = *findTarget("h100");
  EXPECT_EQ(open.forRanks(6)->devicesPerNode, 6);
  EXPECT_EQ(open.forRanks(20)->devicesPerNode, 8);
  EXPECT_EQ(open.forRanks(20)->nodes, 3);
  Target node = *findTarget("h100x8");
  EXPECT_TRUE(node.forRanks(4).isOk());
  EXPECT_THAT(node.forRanks(16).status().toString(),
              HasSubstr("ranks = 16 exceeds the 8 devices of target h100x8"));
}

TEST(Target, HostRanksShareTheMemoryOfTheMachine) {
  Target host = *findTarget("host");
  EXPECT_EQ(host.bytesPerRank(1), machineMemoryBytes());
  EXPECT_EQ(host.bytesPerRank(4), machineMemoryBytes() / 4);
  EXPECT_EQ(findTarget("h100")->bytesPerRank(4), 85017493504u);
}

TEST(Target, PeaksFallBackToWiderTypes) {
  Target h100 = *findTarget("h100"), a100 = *findTarget("a100"), b200 = *findTarget("b200");
  EXPECT_EQ(h100.peakFor("bf16"), 989e12);
  EXPECT_EQ(h100.peakFor("f8e4m3:group128"), 1979e12);
  EXPECT_EQ(h100.peakFor("mxfp4"), 1979e12);
  EXPECT_EQ(b200.peakFor("mxfp4"), 9000e12);
  EXPECT_EQ(a100.peakFor("f8e4m3:channel"), 312e12);
  EXPECT_EQ(a100.peakFor("i8:channel"), 624e12);
  EXPECT_EQ(a100.peakFor("i4:group32"), 312e12);
}

TEST(TargetFile, ErrorsNameFileAndKey) {
  std::string h100 = descriptionOf("h100");
  EXPECT_EQ(errorOf(h100), "");
  EXPECT_THAT(errorOf(replaced(h100, "\"kind\": \"cuda\"", "\"kind\": \"tpu\"")),
              HasSubstr("t.json: key \"kind\": \"tpu\" is no backend; known are host, cuda, rocm"));
  EXPECT_THAT(errorOf(replaced(h100, "\"launch_seconds\"", "\"launch_time\"")),
              HasSubstr("t.json: key \"launch_seconds\" is missing"));
  EXPECT_THAT(errorOf(replaced(h100, "\"title\"", "\"cores\": 132, \"title\"")),
              HasSubstr("t.json: key \"cores\": is not known here; known are name"));
  EXPECT_THAT(errorOf(replaced(h100, "\"fp8\"", "\"fp6\"")),
              HasSubstr("t.json: key \"peak_flops.fp6\": is not known here"));
  EXPECT_THAT(errorOf(replaced(h100, "\"tile_tokens\": 64", "\"tile_tokens\": 0")),
              HasSubstr("t.json: key \"tile_tokens\": 0 is outside [1, 4096]"));
  EXPECT_THAT(errorOf(replaced(h100, "3350000000000", "-1")),
              HasSubstr("key \"bandwidth.memory_bytes_per_second\": -1 must be positive"));
  EXPECT_THAT(errorOf(replaced(h100, "85017493504", "1000")),
              HasSubstr("leaves nothing of the usable 1000 B"));
  EXPECT_THAT(errorOf(replaced(h100, "\"devices\": 1", "\"devices\": 9")),
              HasSubstr("key \"node.devices\": 9 exceeds node.max_devices 8"));
  EXPECT_THAT(errorOf("[]"), HasSubstr("expected object, found array"));
  EXPECT_THAT(errorOf("{"), HasSubstr("t.json: line 1"));
}

TEST(TargetFile, CalibrationReplacesWhatItNames) {
  Target target = *findTarget("h200x8");
  ASSERT_TRUE(
      applyCalibration(target,
                       R"({"name": "h200", "bandwidth": {"memory_bytes_per_second": 4.39e12},
                                   "peak_flops": {"bf16": 7.86e14, "fp8": 1.426e15}})",
                       "c.json")
          .isOk());
  EXPECT_EQ(target.memoryBytesPerSecond, 4.39e12);
  EXPECT_EQ(target.peakFor("bf16"), 786e12);
  EXPECT_EQ(target.peakFor("f32"), 67e12);
  EXPECT_EQ(target.devicesPerNode, 8);
}

TEST(TargetFile, CalibrationsListMeasuredSteps) {
  Target target = *findTarget("h100");
  auto apply = [&](const std::string &step) {
    return applyCalibration(target, "{\"measured\": [" + step + "]}", "c.json");
  };
  ASSERT_TRUE(apply(R"({"model": "m", "phase": "prefill", "tokens": 64, "context": 0,
                        "seconds": 0.5})")
                  .isOk());
  ASSERT_EQ(target.measured.size(), 1u);
  EXPECT_FALSE(target.measured[0].isDecode);
  EXPECT_EQ(target.measured[0].seconds, 0.5);
  EXPECT_THAT(apply(R"({"model": "m", "phase": "train", "tokens": 1, "context": 0, "seconds": 1})")
                  .toString(),
              HasSubstr("c.json: key \"measured[0].phase\": \"train\" is no phase"));
  EXPECT_THAT(apply(R"({"model": "m", "phase": "decode", "tokens": 1})").toString(),
              HasSubstr("key \"measured[0].context\" is missing"));
  EXPECT_FALSE(
      parseTarget(replaced(descriptionOf("h100"), "\"title\"", "\"measured\": [], \"title\""),
                  "t.json")
          .isOk());
}

TEST(TargetFile, CalibrationOfAnotherDeviceIsRefusedWhole) {
  Target target = *findTarget("h200x8");
  const double before = target.launchSeconds;
  Status status = applyCalibration(target, R"({"launch_seconds": 9, "name": "h20"})", "c.json");
  EXPECT_THAT(status.toString(), HasSubstr("c.json: key \"name\": \"h20\" is not the target"));
  EXPECT_EQ(target.launchSeconds, before);
  EXPECT_FALSE(applyCalibration(target, R"({"launch_secs": 1})", "c.json").isOk());
}
