//===- BucketPlannerTest.cpp - Which batch sizes get a program --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Schedule/BucketPlanner.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <random>

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

/// The least cost over all subsets of [1, maxTokens) with maxTokens added.
double bruteForce(const BucketPlanner &planner, const std::vector<StepFrequency> &arrivals,
                  int64_t maxTokens, int64_t maxBuckets) {
  double best = std::numeric_limits<double>::infinity();
  for (uint32_t subset = 0; subset < 1u << (maxTokens - 1); ++subset) {
    std::vector<int64_t> buckets;
    for (int64_t tokens = 1; tokens < maxTokens; ++tokens)
      if (subset >> (tokens - 1) & 1)
        buckets.push_back(tokens);
    buckets.push_back(maxTokens);
    if (int64_t(buckets.size()) <= maxBuckets)
      best = std::min(best, planner.cost(arrivals, buckets));
  }
  return best;
}

TEST(BucketPlanner, Geometric) {
  EXPECT_THAT(*BucketPlanner({.maxTokens = 1}).geometric(), ElementsAre(1));
  EXPECT_THAT(*BucketPlanner({.maxTokens = 16}).geometric(), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(*BucketPlanner({.maxTokens = 20}).geometric(), ElementsAre(1, 2, 4, 8, 16, 20));
  EXPECT_THAT(BucketPlanner({.maxTokens = 0}).geometric().status().toString(),
              HasSubstr("must be at least 1"));
}

TEST(BucketPlanner, OneBucketPerSizeWhenAllowed) {
  BucketPlanner planner({.maxTokens = 64, .maxBuckets = 4});
  EXPECT_THAT(*planner.plan({{8, 10}, {1, 100}, {8, 5}}), ElementsAre(1, 8, 64));
}

TEST(BucketPlanner, MatchesBruteForce) {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    int64_t maxTokens = 2 + random() % 9, maxBuckets = 1 + random() % 5;
    std::vector<StepFrequency> arrivals;
    for (unsigned i = 0; i < 1 + random() % 8; ++i)
      arrivals.push_back({int64_t(1 + random() % maxTokens), double(random() % 20)});
    BucketPlanner planner(
        {.maxTokens = maxTokens, .maxBuckets = maxBuckets, .bucketCost = double(random() % 12)});
    auto buckets = planner.plan(arrivals);
    ASSERT_TRUE(buckets.isOk()) << buckets.status().toString();
    EXPECT_LE(int64_t(buckets->size()), maxBuckets);
    EXPECT_EQ(buckets->back(), maxTokens);
    EXPECT_DOUBLE_EQ(planner.cost(arrivals, *buckets),
                     bruteForce(planner, arrivals, maxTokens, maxBuckets))
        << "round " << round;
  }
}

TEST(BucketPlanner, ABucketMustPayForItself) {
  std::vector<StepFrequency> arrivals = {{1, 10}, {9, 1}};
  EXPECT_THAT(*BucketPlanner({.maxTokens = 10, .bucketCost = 50}).plan(arrivals),
              ElementsAre(1, 10));
  EXPECT_THAT(*BucketPlanner({.maxTokens = 10, .bucketCost = 100}).plan(arrivals), ElementsAre(10));
}

TEST(BucketPlanner, Errors) {
  BucketPlanner planner({.maxTokens = 8});
  EXPECT_THAT(planner.plan({{9, 1}}).status().toString(), HasSubstr("outside [1, 8]"));
  EXPECT_THAT(planner.plan({{0, 1}}).status().toString(), HasSubstr("outside [1, 8]"));
  EXPECT_THAT(planner.plan({{4, -1}}).status().toString(), HasSubstr("not negative"));
  EXPECT_THAT(planner.plan({{4, std::nan("")}}).status().toString(), HasSubstr("finite"));
  EXPECT_THAT(BucketPlanner({.maxTokens = 8, .maxBuckets = 0}).plan({}).status().toString(),
              HasSubstr("max_buckets = 0"));
  EXPECT_THAT(BucketPlanner({.maxTokens = 8, .bucketCost = -1}).plan({}).status().toString(),
              HasSubstr("cost of a bucket"));
}

} // namespace
