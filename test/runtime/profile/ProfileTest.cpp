//===- ProfileTest.cpp - Profiles, read, merged and compared ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/Profile.h"

#include "runtime/artifact/Safetensors.h"
#include "runtime/base/File.h"
#include "runtime/profile/ModelPlacement.h"
#include "runtime/profile/ProfileFile.h"
#include "test/runtime/base/TempDir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

Profile small() {
  Profile p;
  p.model = "toy";
  p.windows = 2;
  p.layers = 3;
  p.experts = 4;
  p.topK = 2;
  p.counts = {0, 0, 0, 0, 4, 3, 2, 1, 5, 5, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 10, 0, 0, 0};
  p.domains = {{"c", {kNoExpert, kNoExpert, 0, 1, 2, 3, kNoExpert, kNoExpert, 3, 2, 1, 0}}};
  return p;
}

std::string message(const Status &status, StatusCode code) {
  EXPECT_EQ(status.code(), code) << status.toString();
  return std::string(status.message());
}

void writeTensors(
    const std::string &path, std::map<std::string, std::string> metadata,
    const std::vector<std::tuple<std::string, DataType, std::vector<int64_t>, std::vector<uint8_t>>>
        &tensors) {
  SafetensorsWriter writer;
  for (auto &[key, value] : metadata)
    ASSERT_TRUE(writer.setMetadata(key, value).isOk());
  for (auto &[name, dtype, shape, bytes] : tensors)
    ASSERT_TRUE(writer.declare(name, dtype, shape).isOk());
  ASSERT_TRUE(writer.begin(std::move(*OutputFile::create(path))).isOk());
  for (auto &[name, dtype, shape, bytes] : tensors)
    ASSERT_TRUE(writer.append(name, bytes).isOk());
  ASSERT_TRUE(writer.finish().isOk());
}

template <typename T> std::vector<uint8_t> bytesOf(std::vector<T> values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST(Profile, SurvivesAFile) {
  test::TempDir dir;
  Profile profile = small();
  ASSERT_TRUE(writeProfile(profile, dir.file("p")).isOk());
  Result<Profile> read = readProfile(dir.file("p"));
  ASSERT_TRUE(read.isOk()) << read.status().toString();
  EXPECT_EQ(*read, profile);
  EXPECT_FALSE(std::filesystem::exists(dir.file("p.part")));
  EXPECT_THAT(read->total(1), ElementsAre(5, 5, 5, 5));
  EXPECT_TRUE(read->isDense(0));
  EXPECT_FALSE(read->isDense(2));
  EXPECT_EQ(read->tokens(read->domains[0]), 2);
}

TEST(Profile, IsRefusedWhenItsNumbersLie) {
  auto broken = [](auto change) {
    Profile p = small();
    change(p);
    return message(checkProfile(p, "p"), StatusCode::kDataCorrupt);
  };
  EXPECT_THAT(broken([](Profile &p) { p.counts[4] = NAN; }),
              HasSubstr("p: layer 1, expert 0: the count is not a finite number"));
  EXPECT_THAT(broken([](Profile &p) { p.counts[23] = -1; }),
              HasSubstr("layer 2, expert 3: the count is negative"));
  EXPECT_THAT(broken([](Profile &p) { p.counts.pop_back(); }), HasSubstr("23 counts"));
  EXPECT_THAT(broken([](Profile &p) { p.experts = 0; }), HasSubstr("0 experts"));
  EXPECT_THAT(broken([](Profile &p) { p.topK = 5; }), HasSubstr("top_k 5 of 4 experts"));
  EXPECT_THAT(broken([](Profile &p) { p.domains[0].ids[2] = 4; }), HasSubstr("expert 4"));
  EXPECT_THAT(broken([](Profile &p) { p.domains[0].ids.pop_back(); }), HasSubstr("11 expert ids"));
  EXPECT_THAT(broken([](Profile &p) { p.windows = p.layers = p.experts = 60000; }),
              HasSubstr("are no sizes of a profile"));
}

TEST(Profile, ReadsSglang) {
  Result<Profile> flat = parseSglangProfile(R"({"logical_count": [[0,0],[3,4.0]], "x": 1})", "f");
  ASSERT_TRUE(flat.isOk()) << flat.status().toString();
  EXPECT_EQ(flat->windows, 1);
  EXPECT_EQ(flat->layers, 2);
  EXPECT_EQ(flat->counts, (std::vector<double>{0, 0, 3, 4}));
  Result<Profile> deep = parseSglangProfile(R"({"logical_count": [[[1,2]],[[3,4]]]})", "f");
  ASSERT_TRUE(deep.isOk()) << deep.status().toString();
  EXPECT_EQ(deep->windows, 2);
  EXPECT_EQ(deep->layers, 1);
  for (const char *text :
       {R"({"logical_count": []})", R"({"logical_count": [[]]})", R"({"logical_count": [1]})",
        R"({"logical_count": [[1,2],[3]]})", R"({"logical_count": [[1,"2"]]})",
        R"({"logical_count": [[1,-2]]})", R"({"logical_count": [[[1]],[[1],[2]]]})",
        R"({"logical_count": [[[1]],2]})", R"({"logical_count": [[1],[[2]]]})", "[", "{}"}) {
    Result<Profile> profile = parseSglangProfile(text, "file.json");
    ASSERT_FALSE(profile.isOk()) << text;
    EXPECT_THAT(std::string(profile.status().message()), HasSubstr("file.json")) << text;
  }
}

TEST(Profile, ReadsTensorRtLlm) {
  test::TempDir dir;
  ASSERT_TRUE(
      writeFile(dir.file("meta_info.json"), R"({"num_experts": 3, "num_experts_per_token": 2})")
          .isOk());
  EXPECT_THAT(message(readProfile(dir.path()).status(), StatusCode::kNotFound),
              HasSubstr("no .safetensors file"));
  writeTensors(dir.file("rank0.safetensors"), {},
               {{"7_1", DataType::kI64, {3}, bytesOf<int64_t>({1, 2, 3})},
                {"8_1", DataType::kI32, {3}, bytesOf<int32_t>({4, 0, 0})}});
  writeTensors(dir.file("rank1.safetensors"), {},
               {{"7_1", DataType::kI64, {3}, bytesOf<int64_t>({10, 20, 30})}});
  Result<Profile> profile = readProfile(dir.path());
  ASSERT_TRUE(profile.isOk()) << profile.status().toString();
  EXPECT_EQ(profile->windows, 2);
  EXPECT_EQ(profile->layers, 2);
  EXPECT_EQ(profile->topK, 2);
  EXPECT_EQ(profile->counts, (std::vector<double>{0, 0, 0, 11, 22, 33, 0, 0, 0, 4, 0, 0}));

  writeTensors(dir.file("rank1.safetensors"), {},
               {{"7_1", DataType::kI64, {2}, bytesOf<int64_t>({10, 20})}});
  EXPECT_THAT(message(readProfile(dir.path()).status(), StatusCode::kDataCorrupt),
              HasSubstr("\"7_1\" is not [3]"));
  writeTensors(dir.file("rank1.safetensors"), {},
               {{"7_1x", DataType::kI64, {3}, bytesOf<int64_t>({1, 1, 1})}});
  EXPECT_THAT(message(readProfile(dir.path()).status(), StatusCode::kDataCorrupt),
              HasSubstr("not named {iteration}_{layer}"));
  writeTensors(dir.file("rank1.safetensors"), {},
               {{"7_1", DataType::kI64, {3}, bytesOf<int64_t>({-100, 20, 0})}});
  EXPECT_THAT(message(readProfile(dir.path()).status(), StatusCode::kDataCorrupt),
              HasSubstr("negative"));
  ASSERT_TRUE(writeFile(dir.file("meta_info.json"), R"({"num_experts": 0})").isOk());
  EXPECT_THAT(message(readProfile(dir.path()).status(), StatusCode::kDataCorrupt),
              HasSubstr("num_experts 0"));
}

TEST(Profile, ReadsBareTraces) {
  test::TempDir dir;
  writeTensors(dir.file("t"), {},
               {{"b", DataType::kU8, {2, 1, 2}, bytesOf<uint8_t>({0, 1, 4, 0})},
                {"a", DataType::kI32, {1, 1, 2}, bytesOf<int32_t>({2, 3})}});
  Result<Profile> profile = readProfile(dir.file("t"));
  ASSERT_TRUE(profile.isOk()) << profile.status().toString();
  EXPECT_EQ(profile->experts, 5);
  EXPECT_EQ(profile->topK, 2);
  EXPECT_EQ(profile->domains[0].name, "a");
  EXPECT_EQ(profile->counts, (std::vector<double>{0, 0, 1, 1, 0, 2, 1, 0, 0, 1}));
  writeTensors(dir.file("t"), {}, {{"b", DataType::kI32, {1, 1, 2}, bytesOf<int32_t>({0, -1})}});
  EXPECT_THAT(message(readProfile(dir.file("t")).status(), StatusCode::kDataCorrupt),
              HasSubstr("expert id"));
  writeTensors(dir.file("t"), {{"format", "sluice-profile-2"}},
               {{"b", DataType::kU8, {1, 1, 1}, bytesOf<uint8_t>({0})}});
  EXPECT_THAT(message(readProfile(dir.file("t")).status(), StatusCode::kVersionMismatch),
              HasSubstr("this build reads \"sluice-profile-1\""));
}

TEST(Profile, MergesOnlyOneModel) {
  std::vector<Profile> profiles = {small(), small()};
  std::vector<std::string> names = {"a", "b"};
  profiles[1].domains.push_back({"french", profiles[1].domains[0].ids});
  Result<Profile> merged = mergeProfiles(profiles, names);
  ASSERT_TRUE(merged.isOk()) << merged.status().toString();
  EXPECT_EQ(merged->windows, 4);
  EXPECT_THAT(merged->total(1), ElementsAre(10, 10, 10, 10));
  EXPECT_EQ(merged->tokens(merged->domains[0]), 4);
  EXPECT_EQ(merged->tokens(merged->domains[1]), 2);

  auto refused = [&](auto change) {
    profiles[1] = small();
    change(profiles[1]);
    return message(mergeProfiles(profiles, names).status(), StatusCode::kInvalidArgument);
  };
  EXPECT_THAT(refused([](Profile &p) { p.layers = 2; }),
              HasSubstr("b is a profile of another model than a: layers 2 against 3"));
  EXPECT_THAT(refused([](Profile &p) { p.experts = 8; }), HasSubstr("experts 8 against 4"));
  EXPECT_THAT(refused([](Profile &p) { p.topK = 1; }), HasSubstr("top_k 1 against 2"));
  EXPECT_THAT(refused([](Profile &p) { p.model = "other"; }), HasSubstr("model \"other\""));
}

TEST(Profile, TellsSkew) {
  std::vector<LayerSkew> layers = inspectProfile(small());
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].layer, 1);
  EXPECT_DOUBLE_EQ(layers[0].heaviest, 1);
  EXPECT_DOUBLE_EQ(layers[0].entropy, 1);
  EXPECT_DOUBLE_EQ(layers[1].heaviest, 3); // 15 of 20, the mean is 5
  EXPECT_DOUBLE_EQ(layers[1].topTenth, 0.75);
  EXPECT_EQ(layers[1].unused, 2);
  // Half of the tokens choose each of four experts; one token chooses two.
  EXPECT_DOUBLE_EQ(layers[0].distinct[0], 2);
  EXPECT_NEAR(layers[0].distinct[1], 4 * (1 - std::pow(0.5, 8)), 1e-12);
}

TEST(Profile, TellsDrift) {
  Profile a = small(), b = small();
  Result<ProfileDrift> none = compareProfiles(a, a, 2, 4);
  ASSERT_TRUE(none.isOk()) << none.status().toString();
  EXPECT_DOUBLE_EQ(none->totalVariation, 0);
  EXPECT_DOUBLE_EQ(none->correlation, 1);
  EXPECT_EQ(none->layers.size(), 2u);
  b.counts[20] = 0, b.counts[22] = 10; // layer 2: expert 2 instead of expert 0
  ProfileDrift drift = *compareProfiles(a, b, 2, 4);
  EXPECT_DOUBLE_EQ(drift.layers[1].totalVariation, 0.5);
  EXPECT_LT(drift.layers[1].correlation, 1);
  EXPECT_GE(drift.layers[1].carriedOver, drift.layers[1].refitted);
  EXPECT_THAT(message(compareProfiles(a, b, 2, 3).status(), StatusCode::kInvalidArgument),
              HasSubstr("slots = 3 is below"));
  b.layers = 1, b.windows = 6;
  EXPECT_THAT(message(compareProfiles(a, b, 2, 4).status(), StatusCode::kInvalidArgument),
              HasSubstr("another model"));
}

TEST(ModelPlacement, PlacesEveryLayerWhateverTheThreads) {
  std::vector<Profile> profiles = {small()};
  std::vector<std::string> names = {"p"};
  ModelPlacementRequest request;
  request.devices = 2;
  request.slots = 5;
  Result<ModelPlacement> one = placeModel(profiles, names, request);
  ASSERT_TRUE(one.isOk()) << one.status().toString();
  EXPECT_THAT(one->dense, ElementsAre(true, false, false));
  EXPECT_THAT(one->layers[0].placement.slotExpert, ElementsAre(0, 1, 2, 3, 0));
  EXPECT_GT(one->layers[2].replicas[0], 1) << "three quarters of the tokens";
  request.threads = 3;
  ModelPlacement three = *placeModel(profiles, names, request);
  for (int l = 0; l < 3; ++l)
    EXPECT_EQ(three.layers[l].placement, one->layers[l].placement);

  request.objective = PlacementObjective::kActivatedExperts;
  ModelPlacement decode = *placeModel(profiles, names, request);
  EXPECT_GT(decode.activatedExperts, 0);
  EXPECT_GE(decode.devicesPerToken, 1);

  for (const PlacementDecision &layer : one->layers)
    request.initial.push_back(layer.placement);
  request.objective = PlacementObjective::kTokens;
  request.migrationCost = 100;
  EXPECT_EQ(placeModel(profiles, names, request)->movedCopies, 0);
  request.initial.pop_back();
  EXPECT_THAT(message(placeModel(profiles, names, request).status(), StatusCode::kInvalidArgument),
              HasSubstr("has 2 layers and the profile 3"));
  request.initial.clear();
  request.slots = 3;
  EXPECT_THAT(message(placeModel(profiles, names, request).status(), StatusCode::kInvalidArgument),
              HasSubstr("layer 0: slots = 3"));
}

} // namespace
