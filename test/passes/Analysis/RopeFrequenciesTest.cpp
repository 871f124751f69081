//===- RopeFrequenciesTest.cpp - Frequencies of every RoPE variant ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Expected values come from a transcription of transformers' modeling_rope_utils.py, evaluated in
// double precision.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/RopeFrequencies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace sluice;
using testing::HasSubstr;

namespace {

RopeQuestion ask(int64_t dim, double base, int64_t maxPosition, std::string type,
                 std::map<std::string, double> numbers = {}) {
  return {dim, base, maxPosition, maxPosition, {std::move(type), std::move(numbers), {}}};
}

void expectTable(const std::vector<float> &table, const std::vector<double> &expected) {
  ASSERT_EQ(table.size(), expected.size());
  for (size_t i = 0; i < table.size(); ++i)
    EXPECT_NEAR(table[i], expected[i], 1e-6 * expected[i]) << "entry " << i;
}

RopeTables compute(const RopeQuestion &question) {
  auto tables = ropeFrequencies(question);
  EXPECT_TRUE(tables.isOk()) << tables.status().toString();
  return tables.isOk() ? *tables : RopeTables();
}

std::string errorOf(const RopeQuestion &question) {
  return ropeFrequencies(question).status().toString();
}

TEST(RopeFrequencies, Default) {
  RopeTables rope = compute(ask(8, 1e4, 512, "default"));
  ASSERT_EQ(rope.tables.size(), 1u);
  expectTable(rope.tables[0], {1, 0.1, 0.01, 0.001});
  EXPECT_EQ(rope.magnitude, 1);
  EXPECT_EQ(rope.switchLength, 0);
}

TEST(RopeFrequencies, Linear) {
  expectTable(compute(ask(8, 1e4, 512, "linear", {{"factor", 4}})).tables[0],
              {0.25, 0.025, 0.0025, 0.00025});
}

TEST(RopeFrequencies, DynamicIsPlainUpToTheTrainedLength) {
  RopeQuestion question = ask(8, 1e4, 512, "dynamic", {{"factor", 4}});
  expectTable(compute(question).tables[0], {1, 0.1, 0.01, 0.001});
  question.maxSeqLen = 513;
  EXPECT_THAT(errorOf(question), HasSubstr("lower max_seq_len to 512"));
  EXPECT_EQ(ropeFrequencies(question).status().code(), StatusCode::kUnsupported);
}

TEST(RopeFrequencies, YarnWithMscale) {
  RopeTables rope = compute(ask(16, 1e4, 4096, "yarn",
                                {{"factor", 40},
                                 {"original_max_position_embeddings", 4096},
                                 {"mscale", 1.0},
                                 {"mscale_all_dim", 0.707}}));
  expectTable(rope.tables[0], {1, 0.316227766, 0.1, 0.0239147248, 0.005125, 0.000849862121, 2.5e-05,
                               7.90569415e-06});
  EXPECT_NEAR(rope.magnitude, 1.08572639926, 1e-10);
}

TEST(RopeFrequencies, YarnWithoutTruncation) {
  RopeTables rope = compute(ask(16, 150000, 131072, "yarn",
                                {{"factor", 32},
                                 {"original_max_position_embeddings", 4096},
                                 {"beta_fast", 32},
                                 {"beta_slow", 1},
                                 {"truncate", 0}}));
  expectTable(rope.tables[0], {1, 0.225418, 0.0508132748, 0.00679495949, 0.000456483919,
                               1.81883367e-05, 4.09997848e-06, 9.2420895e-07});
  EXPECT_NEAR(rope.magnitude, 1.34657359028, 1e-10);
}

TEST(RopeFrequencies, YarnTakesItsFactorFromPositionsAndItsMagnitudeAsGiven) {
  RopeTables rope =
      compute(ask(8, 1e4, 8192, "yarn",
                  {{"original_max_position_embeddings", 2048}, {"attention_factor", 1.25}}));
  expectTable(rope.tables[0], {1, 0.1, 0.00625, 0.00025});
  EXPECT_EQ(rope.magnitude, 1.25);
}

TEST(RopeFrequencies, Llama3) {
  expectTable(compute(ask(16, 500000, 131072, "llama3",
                          {{"factor", 8},
                           {"low_freq_factor", 1},
                           {"high_freq_factor", 4},
                           {"original_max_position_embeddings", 8192}}))
                  .tables[0],
              {1, 0.193922745, 0.0376060309, 0.00729266474, 0.000524846161, 3.4281022e-05,
               6.64786987e-06, 1.28917317e-06});
  // Equal factors leave no ramp: 0.00141421356 is no longer in between.
  expectTable(compute(ask(16, 500000, 131072, "llama3",
                          {{"factor", 8},
                           {"low_freq_factor", 1},
                           {"high_freq_factor", 1},
                           {"original_max_position_embeddings", 8192}}))
                  .tables[0],
              {1, 0.193922745, 0.0376060309, 0.00729266474, 0.00141421356, 3.4281022e-05,
               6.64786987e-06, 1.28917317e-06});
}

TEST(RopeFrequencies, LongRopeSwitchesTables) {
  RopeQuestion question =
      ask(8, 1e4, 131072, "longrope", {{"original_max_position_embeddings", 4096}});
  question.scaling.lists = {{"short_factor", {1, 1.1, 1.2, 1.3}}, {"long_factor", {1, 2, 4, 8}}};
  RopeTables rope = compute(question);
  ASSERT_EQ(rope.tables.size(), 2u);
  expectTable(rope.tables[0], {1, 0.0909090909, 0.00833333333, 0.000769230769});
  expectTable(rope.tables[1], {1, 0.05, 0.0025, 0.000125});
  EXPECT_EQ(rope.switchLength, 4096);
  EXPECT_NEAR(rope.magnitude, 1.19023807142, 1e-10);

  question.scaling.numbers["factor"] = 2;
  EXPECT_NEAR(compute(question).magnitude, 1.04083299973, 1e-10);

  question.maxSeqLen = 4096;
  rope = compute(question);
  EXPECT_EQ(rope.tables.size(), 1u);
  EXPECT_EQ(rope.switchLength, 0);

  question.scaling.numbers["short_mscale"] = 1.1;
  question.scaling.numbers["long_mscale"] = 1.3;
  EXPECT_EQ(compute(question).magnitude, 1.1);
  question.maxSeqLen = 8192;
  EXPECT_THAT(errorOf(question), HasSubstr("lower max_seq_len to 4096"));
}

TEST(RopeFrequencies, Errors) {
  EXPECT_THAT(errorOf(ask(8, 1e4, 512, "su")),
              HasSubstr("rope type \"su\" is not known; known are default, linear, dynamic, yarn, "
                        "llama3, longrope"));
  EXPECT_EQ(ropeFrequencies(ask(8, 1e4, 512, "su")).status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(errorOf(ask(8, 1e4, 512, "linear")), HasSubstr("key \"factor\" is missing"));
  EXPECT_THAT(errorOf(ask(8, 1e4, 512, "linear", {{"factor", 0}})), HasSubstr("must be positive"));
  EXPECT_THAT(errorOf(ask(7, 1e4, 512, "default")), HasSubstr("7 rotated entries"));
  EXPECT_THAT(errorOf(ask(8, 1e4, 512, "llama3",
                          {{"factor", 8},
                           {"low_freq_factor", 4},
                           {"high_freq_factor", 2},
                           {"original_max_position_embeddings", 8192}})),
              HasSubstr("must not be less than \"low_freq_factor\""));
  RopeQuestion question = ask(8, 1e4, 512, "longrope");
  EXPECT_THAT(errorOf(question), HasSubstr("list \"short_factor\" is missing"));
  question.scaling.lists = {{"short_factor", {1, 1, 1}}, {"long_factor", {1, 1, 1, 1}}};
  EXPECT_THAT(errorOf(question), HasSubstr("has 3 entries, not 4"));
}

} // namespace
