//===- CostModelTest.cpp - How long a step takes ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/CostModel.h"

#include "TinyTable.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace sluice;
using namespace sluice::planner;

namespace {

RoutingStats uniform(const ModelTable &model) {
  RoutingStats stats;
  for (const TableLayer &layer : model.layers)
    stats.chosen.push_back(uniformChoice(layer.experts, layer.topK));
  return stats;
}

struct Fixture {
  ModelTable model;
  Target target;
  RoutingStats stats;

  explicit Fixture(const char *name = "h100x8")
      : model(tinyTable()), target(*findTarget(name)), stats(uniform(model)) {}
  CostModel costs(const ParallelShape &shape = {}) const {
    return CostModel(model, shape, *checkShape(model, shape), target, stats);
  }
};

} // namespace

TEST(CostModel, OneTokenIsPaidInBytesAndBoundaries) {
  Fixture setup;
  StepCost cost = setup.costs().step(CostModel::decode(1, 0));
  const double bandwidth = setup.target.memoryBytesPerSecond;
  // Two of eight experts in each of two layers, by hand: 2 * 2 * 3 * 256 * 512 numbers of 2 bytes.
  EXPECT_NEAR(cost.experts * bandwidth, 2 * 2 * 3 * 256 * 512 * 2, 1);
  EXPECT_NEAR(cost.distinctExperts, 2, 1e-9);
  EXPECT_NEAR(cost.fixed, 21 * setup.target.launchSeconds, 1e-12);
  EXPECT_EQ(cost.communication, 0);
  // Query, key, value and output products, and a norm.
  EXPECT_NEAR(cost.attention * bandwidth, 2 * ((1024 * 256 + 256 * 512) * 2 + 256 * 4), 1);
  EXPECT_NEAR(cost.seconds, cost.attention + cost.experts + cost.dense + cost.head + cost.fixed,
              1e-15);
}

TEST(CostModel, DecodingGrowsWithDistinctExpertsPrefillWithTokens) {
  Fixture setup;
  CostModel costs = setup.costs();
  StepCost small = costs.step(CostModel::decode(2, 0)),
           large = costs.step(CostModel::decode(64, 0));
  EXPECT_NEAR(large.experts / small.experts, large.distinctExperts / small.distinctExperts, 1e-9);
  // Far past the ridge time is proportional to tokens.
  StepCost prefill = costs.step(CostModel::prefill(1 << 20));
  double flops = double(1 << 20) * 2 * 2 * 2 * 3 * 256 * 512;
  EXPECT_NEAR(prefill.experts, flops / setup.target.peakFor("bf16"), 0.02 * prefill.experts);
}

TEST(CostModel, CachesAreReadOncePerSequence) {
  Fixture setup;
  CostModel costs = setup.costs();
  double without = costs.step(CostModel::decode(8, 0)).bytes;
  EXPECT_NEAR(costs.step(CostModel::decode(8, 1000)).bytes - without,
              8.0 * 1000 * 2 * 2 * 4 * 64 * 2, 1);
  for (TableLayer &layer : setup.model.layers)
    layer.window = 100;
  EXPECT_NEAR(setup.costs().step(CostModel::decode(8, 1000)).bytes - without,
              8.0 * 100 * 2 * 2 * 4 * 64 * 2, 1);
}

TEST(CostModel, ExpertGroupsWaitForTheBusiest) {
  Fixture setup;
  StepCost tp = setup.costs({4, 1, 1}).step(CostModel::decode(1, 0));
  StepCost ep = setup.costs({1, 4, 1}).step(CostModel::decode(1, 0));
  // tp reads a quarter of both experts; ep has at least one whole expert in the busiest group.
  EXPECT_NEAR(tp.largestGroupExperts, 2, 1e-9);
  EXPECT_GT(ep.largestGroupExperts, 1);
  EXPECT_LE(ep.largestGroupExperts, 2);
  EXPECT_GT(ep.experts, tp.experts);
  // With every expert awake there is nothing to wait for.
  StepCost all = setup.costs({1, 4, 1}).step(CostModel::decode(4096, 0));
  EXPECT_NEAR(all.largestGroupExperts, 2, 1e-6);
}

TEST(CostModel, PlacementDecidesTheBusiestGroup) {
  Fixture setup;
  for (auto &chosen : setup.stats.chosen)
    chosen = {0.9, 0.9, 0.05, 0.05, 0.025, 0.025, 0.025, 0.025};
  double dealt = setup.costs({1, 2, 1}).step(CostModel::prefill(1 << 16)).experts;
  setup.stats.placement.assign(2, {{0, 2, 4, 6}, {1, 3, 5, 7}});
  double placed = setup.costs({1, 2, 1}).step(CostModel::prefill(1 << 16)).experts;
  EXPECT_NEAR(dealt / placed, 1.9, 0.05);
  // Two copies of every expert share its tokens.
  setup.stats.placement.assign(2, {{0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}});
  EXPECT_NEAR(setup.costs({1, 2, 1, 16}).step(CostModel::prefill(1 << 16)).experts, placed,
              0.02 * placed);
}

TEST(CostModel, ExchangesCrossNodesAtTheirOwnSpeed) {
  Target node = *findTarget("h100x8"), nodes = *findTarget("h100x8x2");
  const double bytes = 64e6;
  EXPECT_EQ(allReduceSeconds(node, 1, bytes), 0);
  EXPECT_NEAR(allReduceSeconds(node, 8, bytes), 2 * (3 * 2.5e-6 + bytes * 7 / 8 / 450e9), 1e-9);
  EXPECT_NEAR(allReduceSeconds(nodes, 16, bytes) - allReduceSeconds(node, 8, bytes),
              2 * (5e-6 + bytes / 8 / 2 / 50e9), 1e-9);
  EXPECT_NEAR(allGatherSeconds(node, 8, bytes) * 2, allReduceSeconds(node, 8, bytes), 1e-12);
}

TEST(BatchCurve, EndsAtTheLargestBatchAndFindsTheSweetSpot) {
  Fixture setup;
  BatchCurve curve = batchCurve(setup.costs(), 48, 512);
  std::vector<int64_t> batches;
  for (const BatchPoint &point : curve.points)
    batches.push_back(point.batch);
  EXPECT_EQ(batches, (std::vector<int64_t>{1, 2, 4, 8, 16, 32, 48}));
  for (size_t i = 1; i < curve.points.size(); ++i) {
    EXPECT_GT(curve.points[i].cost.seconds, curve.points[i - 1].cost.seconds);
    double gain = curve.points[i].tokensPerSecond / curve.points[i - 1].tokensPerSecond;
    double wanted =
        std::pow(1.5, std::log2(double(curve.points[i].batch) / double(curve.points[i - 1].batch)));
    if (i <= curve.sweetSpot) {
      EXPECT_GE(gain, wanted);
    } else if (i == curve.sweetSpot + 1) {
      EXPECT_LT(gain, wanted);
    }
  }
  EXPECT_EQ(batchCurve(setup.costs(), 1, 0).points.size(), 1u);
}
