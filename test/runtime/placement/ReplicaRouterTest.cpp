//===- ReplicaRouterTest.cpp - Which copy serves which token ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The decode rule must reach the exact optimum, which a plain matching computes here; the prefill
// rule must reach the lowest level that any split of tokens has, which a plain maximum flow gives.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/ReplicaRouter.h"

#include "test/runtime/executor/AllocationCounter.h"
#include "test/runtime/placement/Baselines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

using namespace sluice;
using testing::HasSubstr;

namespace {

/// Random copies of every expert on distinct groups; some slots stay empty.
std::vector<int32_t> randomSlots(std::mt19937 &random, int groups, int perGroup, int experts) {
  for (;;) {
    std::vector<int32_t> slots(groups * perGroup, -1);
    std::vector<int> used(groups, 0);
    auto put = [&](int expert) {
      int group = static_cast<int>(random() % groups);
      auto begin = slots.begin() + group * perGroup, end = begin + perGroup;
      if (used[group] == perGroup || std::find(begin, end, expert) != end)
        return false;
      begin[used[group]++] = expert;
      return true;
    };
    bool all = true;
    for (int e = 0; e < experts && all; ++e) {
      int tries = 0;
      while (!put(e) && ++tries < 100)
        ;
      all = tries < 100;
    }
    for (int extra = 0; extra < groups * perGroup - experts; ++extra)
      put(static_cast<int>(random() % experts));
    if (all)
      return slots;
  }
}

Placement asPlacement(const std::vector<int32_t> &slots, int groups, int experts) {
  Placement placement{experts, {}, {0}};
  int perGroup = static_cast<int>(slots.size()) / groups;
  for (int g = 0; g < groups; ++g) {
    for (int s = g * perGroup; s < (g + 1) * perGroup; ++s)
      if (slots[s] >= 0)
        placement.slotExpert.push_back(slots[s]);
    placement.deviceBegin.push_back(placement.slots());
  }
  return placement;
}

std::vector<int32_t> randomIds(std::mt19937 &random, int tokens, int topK, int experts) {
  std::vector<int32_t> ids;
  for (int t = 0; t < tokens; ++t) {
    std::vector<int32_t> row;
    while (static_cast<int>(row.size()) < topK) {
      auto id = static_cast<int32_t>(std::min(random() % experts, random() % experts)); // skewed
      if (std::find(row.begin(), row.end(), id) == row.end())
        row.push_back(id);
    }
    ids.insert(ids.end(), row.begin(), row.end());
  }
  return ids;
}

std::vector<int32_t> assign(const ReplicaRouter &router, const std::vector<int32_t> &ids,
                            bool decode) {
  std::vector<int32_t> workspace(router.workspaceSize(), 0x5a5a5a5a), slots(ids.size(), -7);
  router.assign(ids, decode, slots, workspace);
  return slots;
}

TEST(ReplicaRouter, DecodeReachesTheOptimumWithOneCopyPerExpert) {
  std::mt19937 random(3);
  int better = 0;
  for (int trial = 0; trial < 200; ++trial) {
    int groups = 2 + static_cast<int>(random() % 7), experts = 16 + static_cast<int>(random() % 17);
    int perGroup = (experts + groups - 1) / groups + 1 + static_cast<int>(random() % 4);
    perGroup = std::min(perGroup, experts);
    std::vector<int32_t> slots = randomSlots(random, groups, perGroup, experts);
    Result<ReplicaRouter> router = ReplicaRouter::create(slots, groups, experts);
    ASSERT_TRUE(router.isOk()) << router.status().toString();
    std::vector<int32_t> ids = randomIds(random, 1 + trial % 40, 4, experts);
    std::vector<int32_t> chosen = assign(*router, ids, true);

    std::vector<int> slotOfExpert(experts, -1), perDevice(groups, 0), active;
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_GE(chosen[i], 0);
      ASSERT_EQ(slots[chosen[i]], ids[i]);
      if (slotOfExpert[ids[i]] < 0) {
        slotOfExpert[ids[i]] = chosen[i];
        ++perDevice[chosen[i] / perGroup];
        active.push_back(ids[i]);
      }
      ASSERT_EQ(slotOfExpert[ids[i]], chosen[i]) << "two copies of one expert serve a batch";
    }
    int optimum = test::optimalActivation(asPlacement(slots, groups, experts), active);
    int largest = *std::max_element(perDevice.begin(), perDevice.end());
    ASSERT_EQ(largest, optimum);
    // The first copy everywhere must be worse now and then, or this proves nothing.
    std::vector<int> first(groups, 0);
    for (int e : active)
      ++first[(std::find(slots.begin(), slots.end(), e) - slots.begin()) / perGroup];
    better += *std::max_element(first.begin(), first.end()) > largest;
  }
  EXPECT_GT(better, 50);
}

TEST(ReplicaRouter, DecodeDoesNotDependOnTheOrderOfPairs) {
  std::mt19937 random(4);
  std::vector<int32_t> slots = randomSlots(random, 4, 12, 32);
  ReplicaRouter router = *ReplicaRouter::create(slots, 4, 32);
  std::vector<int32_t> ids = randomIds(random, 20, 4, 32), shuffled = ids;
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  std::vector<int32_t> a = assign(router, ids, true), b = assign(router, shuffled, true);
  for (size_t i = 0; i < ids.size(); ++i)
    for (size_t j = 0; j < ids.size(); ++j)
      EXPECT_TRUE(ids[i] != shuffled[j] || a[i] == b[j]);
}

TEST(ReplicaRouter, PrefillBalancesTokensToTheLowestLevel) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 60; ++trial) {
    int groups = 2 + trial % 7, experts = 24;
    int perGroup = (experts + groups - 1) / groups + 2;
    std::vector<int32_t> slots = randomSlots(random, groups, perGroup, experts);
    ReplicaRouter router = *ReplicaRouter::create(slots, groups, experts);
    std::vector<int32_t> ids = randomIds(random, 500, 4, experts);
    std::vector<int32_t> chosen = assign(router, ids, false);
    std::vector<int> load(groups, 0), tokens(experts, 0);
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(slots[chosen[i]], ids[i]);
      ++load[chosen[i] / perGroup];
      ++tokens[ids[i]];
    }
    int largest = *std::max_element(load.begin(), load.end());
    int optimum = test::optimalTokenLevel(asPlacement(slots, groups, experts), tokens);
    EXPECT_LE(largest, optimum + optimum / 50 + 1) << "trial " << trial;
    EXPECT_GE(largest, optimum);
  }
}

TEST(ReplicaRouter, AllocatesNothing) {
  std::mt19937 random(6);
  ReplicaRouter router = *ReplicaRouter::create(randomSlots(random, 8, 8, 32), 8, 32);
  std::vector<int32_t> ids = randomIds(random, 64, 4, 32), slots(ids.size());
  std::vector<int32_t> workspace(router.workspaceSize());
  uint64_t before = test::allocationCount();
  router.assign(ids, true, slots, workspace);
  router.assign(ids, false, slots, workspace);
  EXPECT_EQ(test::allocationCount(), before);
}

TEST(ReplicaRouter, PaddedIdsGetNoSlot) {
  std::vector<int32_t> slots = {0, 1, 1, -1};
  ReplicaRouter router = *ReplicaRouter::create(slots, 2, 2);
  for (bool decode : {false, true}) {
    EXPECT_EQ(assign(router, {-1, 0, 2, 1 << 30}, decode), (std::vector<int32_t>{-1, 0, -1, -1}));
    EXPECT_TRUE(assign(router, {}, decode).empty());
  }
  // Expert 0 is on group 0 only, so expert 1 goes to group 1 as a whole in decode.
  EXPECT_EQ(assign(router, {1, 0, 1}, true), (std::vector<int32_t>{2, 0, 2}));
  // In prefill three tokens of expert 1 fill both groups up to two tokens.
  EXPECT_EQ(assign(router, {1, 0, 1, 1}, false), (std::vector<int32_t>{1, 0, 2, 2}));
}

TEST(ReplicaRouter, ReportsCountsAndSlots) {
  Placement placement{3, {0, 1, 1, 2}, {0, 2, 4}};
  ReplicaRouter router(placement);
  std::vector<int32_t> workspace(router.workspaceSize()), active = {0, 1, 1};
  EXPECT_EQ(router.route(active, workspace), 1);
  EXPECT_THAT(router.deviceCounts(workspace), testing::ElementsAre(1, 1));
  EXPECT_EQ(router.slotOf(1, workspace), 2);
  EXPECT_EQ(router.slotOf(2, workspace), -1);
}

TEST(ReplicaRouter, RefusesPlacementsItCannotServe) {
  auto message = [](std::vector<int32_t> slots, int groups, int experts) {
    Result<ReplicaRouter> router = ReplicaRouter::create(slots, groups, experts);
    EXPECT_FALSE(router.isOk());
    EXPECT_EQ(router.status().code(), StatusCode::kInvalidArgument);
    return std::string(router.status().message());
  };
  EXPECT_THAT(message({0, 1, 2}, 2, 3), HasSubstr("3 slots for 2 groups"));
  EXPECT_THAT(message({}, 1, 1), HasSubstr("0 slots"));
  EXPECT_THAT(message({0, 1}, 0, 2), HasSubstr("0 groups"));
  EXPECT_THAT(message({0, 3}, 1, 2), HasSubstr("slot 1 holds expert 3"));
  EXPECT_THAT(message({0, -2}, 1, 2), HasSubstr("slot 1 holds expert -2"));
  EXPECT_THAT(message({0, 0, 1, -1}, 2, 2), HasSubstr("group 0 holds two copies of expert 0"));
  EXPECT_THAT(message({0, -1}, 2, 2), HasSubstr("expert 1 has no slot"));
}

} // namespace
