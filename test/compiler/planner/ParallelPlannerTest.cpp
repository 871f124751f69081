//===- ParallelPlannerTest.cpp - Which ranks do what ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/ParallelPlanner.h"

#include "TinyTable.h"

#include <gmock/gmock.h>

#include <set>

using namespace sluice;
using namespace sluice::planner;
using testing::HasSubstr;

namespace {

RoutingStats uniform(const ModelTable &model) {
  RoutingStats stats;
  for (const TableLayer &layer : model.layers)
    stats.chosen.push_back(uniformChoice(layer.experts, layer.topK));
  return stats;
}

Result<Decision> plan(const ModelTable &model, const Target &target, const PlanRequest &request) {
  RoutingStats stats = uniform(model);
  return ParallelPlanner(model, target, stats).plan(request);
}

std::string errorOf(const Result<Decision> &decision) {
  return decision.isOk() ? "" : decision.status().toString();
}

/// A device that has `bytes` for the slabs of a rank.
Target deviceOf(uint64_t bytes, const char *name = "h100") {
  Target target = *findTarget(name);
  target.contextBytes = target.collectiveBytes = target.graphBytesPerLaunch = 0;
  target.usableBytes = bytes;
  return target;
}

} // namespace

TEST(ParallelPlanner, EveryShapeIsInTheTableOnce) {
  Result<Decision> decision = plan(tinyTable(), *findTarget("h100x8"), {});
  ASSERT_TRUE(decision.isOk()) << errorOf(decision);
  EXPECT_EQ(decision->ranks, 8);
  std::set<std::string> names;
  for (const Candidate &candidate : decision->candidates) {
    EXPECT_EQ(candidate.shape.ranks(), 8);
    names.insert(candidate.shape.name());
  }
  EXPECT_EQ(names.size(), 16u);
  EXPECT_EQ(decision->candidates.size(), 16u);
  ASSERT_EQ(decision->chosen, std::optional<size_t>(0));
  for (const Candidate &candidate : decision->candidates)
    EXPECT_LE(decision->candidates[0].score, candidate.fits ? candidate.score : INFINITY);
}

TEST(ParallelPlanner, WhatIsAskedForIsKept) {
  Result<Decision> decision =
      plan(tinyTable(), *findTarget("h100x8"), {.ranks = 4, .tp = 2, .dp = 2});
  ASSERT_TRUE(decision.isOk()) << errorOf(decision);
  ASSERT_EQ(decision->candidates.size(), 1u);
  EXPECT_EQ(decision->candidates[0].shape, (ParallelShape{2, 2, 2}));
  EXPECT_EQ(plan(tinyTable(), *findTarget("h100"), {.tp = 2, .ep = 3})->ranks, 6);
  EXPECT_EQ(plan(tinyTable(), *findTarget("host"), {})->ranks, 1);
}

TEST(ParallelPlanner, ContradictionsAreErrors) {
  ModelTable model = tinyTable();
  Target node = *findTarget("h100x8");
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = 4, .tp = 2, .ep = 4})),
              HasSubstr("tp = 2 times ep = 4 is not the number of ranks, 4"));
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = 4, .tp = 3})), HasSubstr("cannot be shared"));
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = 16})), HasSubstr("exceeds the 8 devices"));
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = 5000})), HasSubstr("outside [1, 4096]"));
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = -1})), HasSubstr("ranks = -1"));
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = 4, .dp = 3})),
              HasSubstr("dp = 3 does not divide"));
  EXPECT_THAT(errorOf(plan(model, node, {.ranks = 8, .slots = 7})), HasSubstr("slots = 7"));
  EXPECT_THAT(errorOf(plan(tinyTable("mxfp4"), *findTarget("h100x32"), {.tp = 32, .ep = 1})),
              HasSubstr("blocks of 32 columns"));
}

TEST(ParallelPlanner, FreeRanksAreTheFewestThatFit) {
  ModelTable model = tinyTable();
  const uint64_t whole = plan(model, deviceOf(0), {.ranks = 1})->candidates[0].memory.total();
  Result<Decision> one = plan(model, deviceOf(whole), {});
  ASSERT_TRUE(one.isOk());
  EXPECT_EQ(one->ranks, 1);
  Result<Decision> two = plan(model, deviceOf(whole - 1), {});
  ASSERT_TRUE(two.isOk());
  ASSERT_TRUE(two->chosen);
  EXPECT_EQ(two->ranks, 2);
  EXPECT_LE(two->candidates[0].memory.total(), whole - 1);
}

TEST(ParallelPlanner, ARefusalSaysWhatWouldFit) {
  ModelTable model = tinyTable();
  // Weights fit, the caches of all pages do not.
  RankMemory memory = plan(model, deviceOf(0), {.ranks = 1})->candidates[0].memory;
  Result<Decision> decision = plan(model, deviceOf(memory.total() - memory.kv / 4), {.ranks = 1});
  ASSERT_TRUE(decision.isOk()) << errorOf(decision);
  EXPECT_FALSE(decision->chosen);
  Status refusal = refusalOf(*decision, model);
  EXPECT_EQ(refusal.code(), StatusCode::kResourceExhausted);
  std::string text(refusal.message());
  EXPECT_THAT(text, HasSubstr("does not fit on 1 x NVIDIA H100"));
  EXPECT_THAT(text, HasSubstr("2 devices"));
  // What it proposes does fit: caches of so many pages.
  size_t at = text.find("--num-pages ");
  ASSERT_NE(at, std::string::npos) << text;
  ModelTable smaller = model;
  smaller.limits.numPages = std::stoll(text.substr(at + 12));
  EXPECT_LT(smaller.limits.numPages, 512);
  EXPECT_GT(smaller.limits.numPages, 370);
  for (TableCache &cache : smaller.caches)
    cache.bytes = cache.bytes / 512 * uint64_t(smaller.limits.numPages);
  EXPECT_TRUE(
      plan(smaller, deviceOf(memory.total() - memory.kv / 4), {.ranks = 1})->chosen.has_value());
}

TEST(ParallelPlanner, NarrowerWeightsAreProposedWhereTheySuffice) {
  ModelTable model = tinyTable("f32");
  RankMemory memory = plan(model, deviceOf(0), {.ranks = 1})->candidates[0].memory;
  Target target = deviceOf(memory.total() - memory.weightBytes() / 2);
  std::string text(refusalOf(*plan(model, target, {.ranks = 1}), model).message());
  EXPECT_THAT(text, HasSubstr("--quantize fp8-block"));
  EXPECT_THAT(text, HasSubstr("tightest are the weights of experts"));
}

TEST(ParallelPlanner, TheLargestBatchesFillTheMemory) {
  ModelTable model = tinyTable();
  Target target = deviceOf(uint64_t(1) << 30);
  Decision decision = *plan(model, target, {.ranks = 2});
  const Candidate &candidate = *decision.subject();
  std::vector<ContextRow> rows = largestBatches(model, candidate, decision.target);
  ASSERT_FALSE(rows.empty());
  EXPECT_EQ(rows.front().context, 1024);
  EXPECT_EQ(rows.back().context, model.maxPosition);
  double perToken = kvBytesPerToken(model, candidate.facts);
  double room = double(uint64_t(1) << 30) - double(candidate.memory.total() - candidate.memory.kv);
  for (const ContextRow &row : rows) {
    double perGroup = double(row.sequences / candidate.shape.dp);
    EXPECT_LE(perGroup * double(row.context) * perToken, room);
    EXPECT_GT((perGroup + 1) * double(row.context) * perToken, room);
  }
}
