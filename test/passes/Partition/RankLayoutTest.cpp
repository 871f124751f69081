//===- RankLayoutTest.cpp - Which rank shares what with whom ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Partition/RankLayout.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using Ranks = std::vector<int64_t>;

TEST(RankLayout, PartsCoverEvenlyInWholePanels) {
  for (int64_t extent : {1, 7, 16, 48, 100, 768, 1000}) {
    for (int64_t parts = 1; parts <= 12; ++parts) {
      int64_t end = 0, least = extent, most = 0;
      for (int64_t i = 0; i < parts; ++i) {
        ShardRange part = shardOf(extent, parts, i);
        EXPECT_EQ(part.begin, end);
        EXPECT_LE(part.begin, part.end);
        const bool wholePanels = extent < 16 * parts || i + 1 == parts || part.size() % 16 == 0;
        EXPECT_TRUE(wholePanels) << extent << " over " << parts;
        end = part.end;
        least = std::min(least, part.size());
        most = std::max(most, part.size());
      }
      EXPECT_EQ(end, extent);
      EXPECT_LE(most - least, extent >= 16 * parts ? 31 : 1) << extent << " over " << parts;
    }
  }
}

TEST(RankLayout, EveryQueryHeadIsComputedOnceBesideItsKeys) {
  for (auto [queryHeads, kvHeads] : {std::pair{8, 8}, {8, 2}, {8, 1}, {12, 3}, {64, 8}, {6, 2}}) {
    const int64_t perKv = queryHeads / kvHeads;
    for (int64_t parts = 1; parts <= queryHeads; ++parts) {
      if (!headShardOf(queryHeads, kvHeads, parts, parts - 1))
        continue;
      std::vector<int> computed(size_t(queryHeads), 0);
      for (int64_t i = 0; i < parts; ++i) {
        auto shard = headShardOf(queryHeads, kvHeads, parts, i);
        ASSERT_TRUE(shard);
        ASSERT_GT(shard->query.size(), 0);
        // A rank's queries share its keys evenly, as attention over them alone assumes.
        EXPECT_EQ(shard->query.size() % shard->kv.size(), 0);
        for (int64_t head = shard->query.begin; head < shard->query.end; ++head) {
          ++computed[size_t(head)];
          const int64_t own =
              (head - shard->query.begin) / (shard->query.size() / shard->kv.size());
          EXPECT_EQ(shard->kv.begin + own, head / perKv)
              << queryHeads << "/" << kvHeads << " over " << parts;
        }
      }
      EXPECT_EQ(std::count(computed.begin(), computed.end(), 1), queryHeads);
    }
  }
}

TEST(RankLayout, MoreRanksThanQueryHeadsDoNotFit) {
  for (int64_t i = 0; i < 8; ++i)
    EXPECT_EQ(headShardOf(4, 2, 8, i), std::nullopt);
  EXPECT_TRUE(headShardOf(4, 2, 4, 3));
}

TEST(RankLayout, GroupsAndColumns) {
  RankLayout layout{8, 2, 4, 2, 2};
  EXPECT_EQ(layout.groupSize(), 4);
  EXPECT_EQ(layout.expertGroup(5), 2);
  EXPECT_EQ(layout.expertShard(5), 1);
  EXPECT_EQ(layout.attentionShard(7), 1);
  EXPECT_EQ(layout.groupRanks(5), (Ranks{4, 5, 6, 7}));
  EXPECT_EQ(layout.shardRanks(7, 2), (Ranks{6, 7}));
  EXPECT_EQ(layout.columnRanks(5), (Ranks{1, 5}));
}

} // namespace
} // namespace sluice
