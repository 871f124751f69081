//===- MemoryPackerTest.cpp - Offsets for buffers with lifetimes ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Memory/MemoryPacker.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>
#include <random>

using namespace sluice;

namespace {

bool meet(const LiveInterval &a, const LiveInterval &b) {
  return a.first <= b.last && b.first <= a.last;
}

/// What must hold of any packing.
void expectSound(const std::vector<LiveInterval> &intervals, const MemoryPacking &packing,
                 int64_t alignment) {
  ASSERT_EQ(packing.offsets.size(), intervals.size());
  EXPECT_GE(packing.arenaBytes, packing.liveBytes);
  for (size_t i = 0; i < intervals.size(); ++i) {
    EXPECT_EQ(packing.offsets[i] % alignment, 0);
    EXPECT_LE(packing.offsets[i] + intervals[i].bytes, packing.arenaBytes);
    for (size_t j = 0; j < i; ++j)
      EXPECT_TRUE(!meet(intervals[i], intervals[j]) ||
                  packing.offsets[i] + intervals[i].bytes <= packing.offsets[j] ||
                  packing.offsets[j] + intervals[j].bytes <= packing.offsets[i])
          << i << " and " << j << " share bytes while both are live";
  }
}

std::vector<LiveInterval> randomIntervals(std::mt19937 &random, int count, int positions,
                                          int maxBytes) {
  std::vector<LiveInterval> intervals;
  for (int i = 0; i < count; ++i) {
    int64_t first = random() % positions;
    int64_t last = std::min<int64_t>(first + random() % 6, positions - 1);
    intervals.push_back({first, last, int64_t(1 + random() % maxBytes)});
  }
  return intervals;
}

/// The smallest arena over all orders of lowest placement, without any pruning.
int64_t bruteForce(const std::vector<LiveInterval> &intervals) {
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), 0);
  int64_t best = INT64_MAX;
  do {
    std::vector<int64_t> offsets(intervals.size(), -1);
    int64_t height = 0;
    for (size_t i : order) {
      int64_t offset = 0;
      for (bool moved = true; moved;) {
        moved = false;
        for (size_t j = 0; j < intervals.size(); ++j)
          if (offsets[j] >= 0 && meet(intervals[i], intervals[j]) &&
              offset < offsets[j] + intervals[j].bytes &&
              offsets[j] < offset + intervals[i].bytes) {
            offset = offsets[j] + intervals[j].bytes;
            moved = true;
          }
      }
      offsets[i] = offset;
      height = std::max(height, offset + intervals[i].bytes);
    }
    best = std::min(best, height);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

/// The buffers of a decoder as lowering makes them, sizes in float32 elements per token: attention
/// and experts of `layers` layers around a residual that lives all along.
std::vector<LiveInterval> decoder(int layers, int64_t tokens, int64_t hidden, int64_t qkv,
                                  int64_t experts, int64_t topK, int64_t width) {
  std::vector<LiveInterval> out;
  auto add = [&](int64_t first, int64_t last, int64_t perToken) {
    out.push_back({first, last, 4 * tokens * perToken});
  };
  int64_t at = 0;
  add(0, layers * 8, hidden); // residual, in place
  for (int layer = 0; layer < layers; ++layer, at += 8) {
    add(at, at + 1, hidden);     // norm
    add(at + 1, at + 2, hidden); // q
    add(at + 1, at + 1, qkv);    // scratch
    add(at + 2, at + 3, hidden); // attention
    add(at + 3, at + 4, hidden); // projection
    add(at + 4, at + 6, hidden); // norm
    for (int i = 0; i < 4; ++i)
      add(at + 5, at + 7, topK); // routing
    add(at + 5, at + 5, 2 * experts);
    add(at + 6, at + 7, topK * width);
    add(at + 7, at + 7, topK * hidden); // scratch of the combination
    add(at + 7, at + 8, hidden);
  }
  return out;
}

TEST(MemoryPacker, Nothing) {
  MemoryPacking packing = MemoryPacker().pack({});
  EXPECT_EQ(packing.arenaBytes, 0);
  EXPECT_EQ(packing.liveBytes, 0);
  EXPECT_TRUE(packing.isOptimal);
}

TEST(MemoryPacker, ReusesWhatIsDead) {
  std::vector<LiveInterval> intervals = {{0, 1, 256}, {1, 2, 256}, {2, 3, 256}};
  MemoryPacking packing = MemoryPacker(256).pack(intervals);
  expectSound(intervals, packing, 256);
  EXPECT_EQ(packing.arenaBytes, 512);
  EXPECT_TRUE(packing.isOptimal);
}

TEST(MemoryPacker, RoundsSizesUp) {
  std::vector<LiveInterval> intervals = {{0, 0, 1}, {0, 0, 257}};
  MemoryPacking packing = MemoryPacker(256).pack(intervals);
  expectSound(intervals, packing, 256);
  EXPECT_EQ(packing.liveBytes, 256 + 512);
  EXPECT_EQ(packing.arenaBytes, 256 + 512);
}

TEST(MemoryPacker, SearchFindsTheOptimumOfSmallCases) {
  std::mt19937 random(7);
  MemoryPacker packer(1);
  for (int round = 0; round < 200; ++round) {
    auto intervals = randomIntervals(random, 3 + round % 5, 8, 9);
    MemoryPacking packing = packer.pack(intervals);
    expectSound(intervals, packing, 1);
    EXPECT_TRUE(packing.isOptimal);
    EXPECT_EQ(packing.arenaBytes, bruteForce(intervals)) << "round " << round;
  }
}

TEST(MemoryPacker, RandomProgramsAreSoundAndNearTheBound) {
  std::mt19937 random(11);
  MemoryPacker packer(256);
  double worst = 1;
  for (int round = 0; round < 30; ++round) {
    auto intervals = randomIntervals(random, 40 + round * 5, 30 + round, 20000);
    MemoryPacking packing = packer.pack(intervals);
    expectSound(intervals, packing, 256);
    worst = std::max(worst, double(packing.arenaBytes) / double(packing.liveBytes));
  }
  // Random lifetimes are harder than programs; measured 1.09.
  EXPECT_LT(worst, 1.15);
}

TEST(MemoryPacker, DecodersAreWithinFivePercentOfTheBound) {
  struct Shape {
    int layers;
    int64_t hidden, qkv, experts, topK, width;
  };
  for (Shape s : {Shape{4, 256, 512, 8, 2, 512}, Shape{8, 384, 640, 32, 4, 192},
                  Shape{32, 4096, 6144, 8, 2, 14336}, Shape{61, 7168, 24576, 256, 8, 2048}})
    for (int64_t tokens : {1, 2, 3, 16, 100, 512}) {
      auto intervals = decoder(s.layers, tokens, s.hidden, s.qkv, s.experts, s.topK, s.width);
      MemoryPacking packing = MemoryPacker().pack(intervals);
      EXPECT_LE(double(packing.arenaBytes), 1.05 * double(packing.liveBytes))
          << s.layers << " layers, " << tokens << " tokens";
    }
}

TEST(MemoryPacker, IsDeterministic) {
  std::mt19937 random(3);
  auto intervals = randomIntervals(random, 120, 60, 5000);
  EXPECT_EQ(MemoryPacker().pack(intervals).offsets, MemoryPacker().pack(intervals).offsets);
}

} // namespace
