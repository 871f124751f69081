//===- PlacementFileTest.cpp - Placements of a whole model on disk ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/PlacementFile.h"

#include "runtime/base/File.h"
#include "test/runtime/base/TempDir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace sluice;
using testing::HasSubstr;

namespace {

const std::vector<Placement> kEqual = {{3, {0, 1, 0, 2}, {0, 2, 4}}, {3, {1, 2, 0, 2}, {0, 2, 4}}};
const std::vector<Placement> kUnequal = {{3, {0, 1, 2, 0, 2}, {0, 3, 5}}};

TEST(PlacementFile, WritesTheFormatsOfServingSystems) {
  EXPECT_EQ(*formatPlacements(kEqual, {false, false}, PlacementFormat::kSglang),
            "{\"physical_to_logical_map\": [\n[0, 1, 0, 2],\n[1, 2, 0, 2]\n]}\n");
  EXPECT_EQ(*formatPlacements(kEqual, {true, false}, PlacementFormat::kTensorRtLlm),
            "num_slots: 4\ninitial_global_assignments:\n  1: [1, 2, 0, 2]\n"
            "layer_updates_per_iter: 0\n");
  EXPECT_EQ(*formatPlacements(kUnequal, {false}, PlacementFormat::kSluice),
            "{\"sluice_placement\": 1, \"experts\": 3, \"layers\": [\n[[0, 1, 2], [0, 2]]\n]}\n");
  EXPECT_EQ(
      *formatPlacements(kUnequal, {false}, PlacementFormat::kSglang),
      "{\"physical_to_logical_map\": [\n[0, 1, 2, 0, 2]\n],\n\"slots_per_device\": [3, 2]}\n");
  Result<std::string> yaml = formatPlacements(kUnequal, {false}, PlacementFormat::kTensorRtLlm);
  EXPECT_EQ(yaml.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(yaml.status().message()), HasSubstr("5 slots on 2 devices"));
  EXPECT_EQ(parsePlacementFormat("vllm").status().code(), StatusCode::kInvalidArgument);
}

TEST(PlacementFile, ReadsWhatItWrote) {
  test::TempDir dir;
  for (PlacementFormat format : {PlacementFormat::kSglang, PlacementFormat::kSluice}) {
    for (const std::vector<Placement> &layers : {kEqual, kUnequal}) {
      std::vector<bool> dense(layers.size(), false);
      ASSERT_TRUE(writeFile(dir.file("p"), *formatPlacements(layers, dense, format)).isOk());
      Result<std::vector<Placement>> read = readPlacements(dir.file("p"), 3, 2);
      ASSERT_TRUE(read.isOk()) << read.status().toString();
      EXPECT_EQ(*read, layers);
    }
  }
}

TEST(PlacementFile, RefusesWhatIsNoPlacement) {
  test::TempDir dir;
  auto refused = [&](const char *text) {
    EXPECT_TRUE(writeFile(dir.file("p"), text).isOk());
    Result<std::vector<Placement>> read = readPlacements(dir.file("p"), 3, 2);
    EXPECT_EQ(read.status().code(), StatusCode::kDataCorrupt) << text;
    return std::string(read.status().message());
  };
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [[0,1,2,3]]})"), HasSubstr("0 .. 2"));
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [[0,1,1,-1]]})"), HasSubstr("0 .. 2"));
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [[0,0,1,2]]})"),
              HasSubstr("device 0 holds two copies of expert 0"));
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [[0,1,0,1]]})"), HasSubstr("expert 2 has no"));
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [7]})"), HasSubstr("list of expert ids"));
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [[0,1,2]], "slots_per_device": [3]})"),
              HasSubstr("1 devices"));
  EXPECT_THAT(refused(R"({"physical_to_logical_map": [[0,1,2]], "slots_per_device": [3, 9]})"),
              HasSubstr("device ranges"));
  EXPECT_THAT(refused(R"({"sluice_placement": 1, "layers": [[[0,1,2]]]})"),
              HasSubstr("expected 2 lists"));
}

TEST(PlacementFile, DealsInTurn) {
  Placement placement = roundRobinPlacement(4, 3, 7);
  EXPECT_TRUE(checkPlacement(placement).isOk());
  EXPECT_EQ(placement.deviceBegin, (std::vector<int>{0, 3, 5, 7}));
  EXPECT_EQ(placement.slotExpert, (std::vector<int>{0, 1, 2, 3, 0, 1, 2}));
}

} // namespace
