//===- RankMemoryTest.cpp - What one rank stores ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/RankMemory.h"

#include "TinyTable.h"

#include <gmock/gmock.h>

using namespace sluice;
using namespace sluice::planner;
using testing::HasSubstr;

namespace {

std::string errorOf(const ModelTable &model, const ParallelShape &shape) {
  Result<ShapeFacts> facts = checkShape(model, shape);
  return facts.isOk() ? "" : facts.status().toString();
}

RankMemory memoryOf(const ModelTable &model, const ParallelShape &shape) {
  Result<ShapeFacts> facts = checkShape(model, shape);
  EXPECT_TRUE(facts.isOk()) << facts.status().toString();
  return rankMemory(model, shape, *facts, *findTarget("h100x8"));
}

uint64_t at(const RankMemory &memory, WeightRole role) { return memory.weights[size_t(role)]; }

} // namespace

TEST(CheckShape, NamesTheRuleThatAShapeBreaks) {
  ModelTable model = tinyTable();
  EXPECT_EQ(errorOf(model, {2, 2, 2}), "");
  EXPECT_THAT(errorOf(model, {2, 2, 3}), HasSubstr("dp = 3 does not divide the 4 ranks"));
  EXPECT_THAT(errorOf(model, {1, 16, 1}), HasSubstr("ep = 16 exceeds the number of experts 8"));
  EXPECT_EQ(errorOf(model, {1, 16, 1, 16}), "");
  EXPECT_THAT(errorOf(model, {1, 2, 1, 7}), HasSubstr("slots = 7 are fewer than the 8 experts"));
  EXPECT_THAT(errorOf(model, {1, 2, 1, 17}), HasSubstr("slots = 17 exceed 8 experts on each of 2"));
  EXPECT_THAT(errorOf(model, {1024, 1, 1}), HasSubstr("tp = 1024 exceeds the width 512"));
  EXPECT_THAT(errorOf(model, {2, 8, 16}), HasSubstr("dp = 16 exceeds max_seqs = 8"));
  EXPECT_THAT(errorOf(model, {0, 8, 1}), HasSubstr("tp = 0"));
  EXPECT_THAT(errorOf(tinyTable("f8e4m3:group128"), {8, 1, 1}),
              HasSubstr("leaves about 64 of 512 columns of down to a rank, which cuts its blocks "
                        "of 128 columns"));
  EXPECT_EQ(errorOf(tinyTable("f8e4m3:group128"), {4, 2, 1}), "");
  EXPECT_EQ(errorOf(tinyTable("i8:channel"), {8, 1, 1}), "");
  EXPECT_EQ(errorOf(model, {3, 1, 1}), "");
}

TEST(CheckShape, WorkThatCannotBeSharedIsRepeatedAndNoted) {
  ModelTable model = tinyTable("f8e4m3:group128");
  // 1024 columns in blocks of 128 have 8 parts at most, heads of 64 pairs of them.
  ShapeFacts facts = *checkShape(model, {1, 8, 1});
  EXPECT_EQ(facts.ffn[0].parts, 8);
  EXPECT_TRUE(facts.ffn[0].overAll);
  EXPECT_EQ(facts.attentionTp, 4);
  EXPECT_THAT(facts.notes, testing::ElementsAre(HasSubstr("shared by 4 of the 8 ranks")));
  ModelTable tied = tinyTable();
  tied.layers[1].splitsHeads = false;
  EXPECT_EQ(checkShape(tied, {1, 4, 1})->attentionTp, 1);
  EXPECT_EQ(checkShape(tinyTable(), {1, 8, 1})->attentionTp, 8);
}

TEST(RankMemory, OneRankHoldsWhatTheTableSays) {
  ModelTable model = tinyTable();
  RankMemory memory = memoryOf(model, {});
  uint64_t sum = 0;
  for (uint64_t bytes : memory.weights)
    sum += bytes;
  EXPECT_EQ(sum, model.weightBytes());
  EXPECT_EQ(memory.kv, 4u * 512 * 16 * 4 * 64 * 2);
  EXPECT_EQ(memory.arena, model.arenaBytes);
  EXPECT_EQ(memory.collectives, 0u);
  EXPECT_EQ(memory.replicas, 0u);
  EXPECT_GT(memory.graphs, 0u);
}

TEST(RankMemory, SharesAreWhatTheRulesSay) {
  ModelTable model = tinyTable();
  RankMemory whole = memoryOf(model, {}), memory = memoryOf(model, {2, 4, 2});
  EXPECT_EQ(at(memory, WeightRole::kExperts) * 8, at(whole, WeightRole::kExperts));
  EXPECT_EQ(at(memory, WeightRole::kShared) * 8, at(whole, WeightRole::kShared));
  // Groups of four ranks share 8 heads on 4 key/value heads.
  EXPECT_EQ(at(memory, WeightRole::kAttention) * 4, at(whole, WeightRole::kAttention));
  EXPECT_EQ(at(memory, WeightRole::kHead), at(whole, WeightRole::kHead));
  EXPECT_EQ(at(memory, WeightRole::kRouter), at(whole, WeightRole::kRouter));
  // Each of two groups has half of the pages, and a rank a quarter of their heads.
  EXPECT_EQ(memory.kv * 8, whole.kv);
  EXPECT_GT(memory.arena, whole.arena);
  EXPECT_GT(memory.collectives, 0u);
}

TEST(RankMemory, UnevenSharesCountTheLargest) {
  ModelTable model = tinyTable();
  RankMemory memory = memoryOf(model, {1, 3, 1}), whole = memoryOf(model, {});
  EXPECT_EQ(at(memory, WeightRole::kExperts) * 8, 3 * at(whole, WeightRole::kExperts));
  EXPECT_EQ(at(memory, WeightRole::kAttention),
            at(memoryOf(model, {3, 1, 1}), WeightRole::kAttention));
}

TEST(RankMemory, CopiesAreItemised) {
  ModelTable model = tinyTable();
  RankMemory plain = memoryOf(model, {1, 4, 1}), copies = memoryOf(model, {1, 4, 1, 12});
  EXPECT_EQ(at(copies, WeightRole::kExperts) * 2, 3 * at(plain, WeightRole::kExperts));
  EXPECT_EQ(copies.replicas, at(copies, WeightRole::kExperts) - at(plain, WeightRole::kExperts));
}

TEST(RankMemory, ACachedTokenTakesItsHeads) {
  ModelTable model = tinyTable();
  EXPECT_EQ(kvBytesPerToken(model, *checkShape(model, {})), 2 * 2 * 4 * 64 * 2);
  EXPECT_EQ(kvBytesPerToken(model, *checkShape(model, {1, 4, 1})), 2 * 2 * 64 * 2);
  // Eight ranks on four key/value heads: each head is held twice.
  EXPECT_EQ(kvBytesPerToken(model, *checkShape(model, {1, 8, 1})), 2 * 2 * 64 * 2);
}
