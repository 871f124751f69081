//===- ExpertActivityTest.cpp - Distinct experts of batches -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/ExpertActivity.h"

#include "runtime/base/Json.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

using namespace sluice;
using namespace sluice::planner;
using testing::HasSubstr;

TEST(ExpertActivity, UniformChoiceFollowsTheClosedForm) {
  std::vector<double> chosen = uniformChoice(256, 8);
  for (int64_t batch : {1, 2, 8, 100})
    EXPECT_NEAR(distinctExperts(chosen, batch, 0),
                256 * (1 - std::pow(1 - 8.0 / 256, double(batch))), 1e-9);
  EXPECT_NEAR(distinctExperts(chosen, 1, 0), 8, 1e-12);
}

TEST(ExpertActivity, SamplesWithoutReplacementAreExact) {
  // 4 tokens, an expert chosen by one of them: a batch of 3 misses it in one of four cases.
  EXPECT_NEAR(activeProbability(0.25, 3, 4), 0.75, 1e-12);
  // Of 5 tokens 2 chose it: C(3, 2) / C(5, 2) = 3 / 10 of the pairs miss it.
  EXPECT_NEAR(activeProbability(0.4, 2, 5), 0.7, 1e-12);
  EXPECT_EQ(activeProbability(0.4, 4, 5), 1);
  EXPECT_EQ(activeProbability(0, 5, 5), 0);
  EXPECT_EQ(activeProbability(1, 1, 0), 1);
}

/// The counts and the batches come from token-level traces of a trained model (make_activity.py).
TEST(ExpertActivity, PredictsTheDistinctExpertsOfTraces) {
  const std::string path = std::string(SLUICE_SOURCE_DIR) + "/test/compiler/planner/activity.json";
  json::Value value = *json::parseFile(path);
  json::Cursor root(value, path);
  std::vector<std::vector<double>> counts;
  json::Cursor layers = *root.getArray("logical_count");
  for (size_t i = 0; i < layers.value().size(); ++i) {
    counts.emplace_back();
    for (const json::Value &count : *layers.element(i)->value().arrayIf())
      counts.back().push_back(*count.asDouble());
  }
  Result<RoutingStats> stats = statsFromCounts(counts, 6, 32, 4, path);
  ASSERT_TRUE(stats.isOk()) << stats.status().toString();
  EXPECT_EQ(stats->tokens, *root.getInt("tokens"));
  json::Cursor batches = *root.getArray("batches");
  ASSERT_EQ(batches.value().size(), 10u);
  for (size_t i = 0; i < batches.value().size(); ++i) {
    json::Cursor entry = *batches.element(i);
    int64_t batch = *entry.getInt("batch");
    double measured = *entry.getDouble("distinct"), predicted = 0;
    for (const std::vector<double> &chosen : stats->chosen)
      predicted += distinctExperts(chosen, batch, stats->tokens) / 6;
    EXPECT_NEAR(predicted / measured, 1, 0.01) << "batch " << batch;
  }
}

TEST(ExpertActivity, ConsecutiveTokensAreCountedAsTheyAre) {
  // Four tokens of two layers with two choices; the first layer of every token is dense.
  const uint16_t none = 0xffff;
  const std::vector<uint16_t> ids = {none, none, 0, 1, none, none, 1, 2,
                                     none, none, 5, 1, none, none, 5, 4};
  EXPECT_EQ(distinctInWindows(ids, 2, 2, 1, 100), 2);
  EXPECT_EQ(distinctInWindows(ids, 2, 2, 2, 100), 3); // {0, 1, 2} and {5, 1, 4}
  EXPECT_EQ(distinctInWindows(ids, 2, 2, 4, 100), 5);
  EXPECT_EQ(distinctInWindows(ids, 2, 2, 5, 100), 0);
}

TEST(ExpertActivity, TiledRowsMatchSimulatedBatches) {
  std::mt19937_64 random(7);
  for (double chosen : {0.002, 0.03, 0.25})
    for (int64_t batch : {1, 16, 256, 4096}) {
      std::binomial_distribution<int64_t> tokens(batch, chosen);
      double sum = 0;
      constexpr int draws = 20000;
      for (int i = 0; i < draws; ++i)
        sum += double((tokens(random) + 63) / 64 * 64);
      double predicted = tiledRows(chosen, batch, 64, 0);
      EXPECT_NEAR(predicted, sum / draws, 0.15 * sum / draws + 0.5)
          << "probability " << chosen << ", batch " << batch;
    }
  EXPECT_NEAR(tiledRows(0.5, 100, 1, 0), 50, 1e-9);
}

TEST(ExpertActivity, CountsOfAnotherModelAreRefused) {
  auto error = [](const std::vector<std::vector<double>> &counts) {
    Result<RoutingStats> stats = statsFromCounts(counts, 1, 4, 2, "p.json");
    return stats.isOk() ? std::string() : stats.status().toString();
  };
  EXPECT_EQ(error({{1, 1, 1, 1}}), "");
  // Dense layers have no counts.
  EXPECT_EQ(error({{0, 0, 0, 0}, {1, 1, 1, 1}}), "");
  EXPECT_THAT(error({{1, 1, 1}}), HasSubstr("layer 0 has counts of 3 experts, the model has 4"));
  EXPECT_THAT(error({{1, 1, 1, 1}, {1, 1, 1, 1}}),
              HasSubstr("2 layers have counts, the model has 1 with experts"));
  EXPECT_THAT(error({}), HasSubstr("0 layers have counts"));
  EXPECT_THAT(error({{1, -1, 1, 1}}), HasSubstr("layer 0 has the count -1"));
  EXPECT_THAT(error({{1, NAN, 1, 1}}), HasSubstr("counts are finite"));
  EXPECT_THAT(error({{9, 1, 1, 1}}), HasSubstr("profile of another model"));
}
