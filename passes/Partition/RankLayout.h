//===- RankLayout.h - Which rank shares what with whom ------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// R ranks are arranged twice. Inside MoE layers rank r is shard r % tp of expert group r / tp, with
// tp * ep = R: a group holds whole experts, its ranks split every expert's width. Around them dp
// data parallel groups of R / dp neighbouring ranks hold sequences of their own; attentionTp ranks
// of a group split the heads, and where that is fewer than the group has, further sets of as many
// ranks compute the same. Free of MLIR: the planner and the partition pass share it.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_PARTITION_RANKLAYOUT_H
#define SLUICE_PASSES_PARTITION_RANKLAYOUT_H

#include <cassert>
#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

namespace sluice {

/// Half-open range of rows, columns or heads.
struct ShardRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const ShardRange &) const = default;
};

/// Part `index` of `extent` entries dealt out to `parts` ranks, as evenly as multiples of 16 (what
/// kernels stream at once) allow, or as single entries do where there are too few of those.
inline ShardRange shardOf(int64_t extent, int64_t parts, int64_t index) {
  int64_t unit = extent / parts >= 16 ? 16 : 1, units = (extent + unit - 1) / unit;
  auto border = [&](int64_t i) {
    return i == parts ? extent : std::min(units * i / parts * unit, extent);
  };
  return {border(index), border(index + 1)};
}

/// The heads of one rank among `parts`.
struct HeadShard {
  ShardRange query, kv;
  bool operator==(const HeadShard &) const = default;
};

/// Part `index` of grouped attention: whole key/value heads with their queries while there are as
/// many as ranks, else parts of the queries of one, whose keys and values several ranks then hold.
/// Nothing when some rank would have no query head.
inline std::optional<HeadShard> headShardOf(int64_t queryHeads, int64_t kvHeads, int64_t parts,
                                            int64_t index) {
  int64_t perKv = queryHeads / kvHeads;
  if (parts <= kvHeads) {
    ShardRange kv{index * kvHeads / parts, (index + 1) * kvHeads / parts};
    return HeadShard{{kv.begin * perKv, kv.end * perKv}, kv};
  }
  int64_t kv = index * kvHeads / parts;
  // Ranks [first, last) have this head: those whose index * kvHeads / parts is kv.
  int64_t first = (kv * parts + kvHeads - 1) / kvHeads;
  int64_t last = ((kv + 1) * parts + kvHeads - 1) / kvHeads;
  if (last - first > perKv)
    return std::nullopt;
  ShardRange query{kv * perKv + (index - first) * perKv / (last - first),
                   kv * perKv + (index - first + 1) * perKv / (last - first)};
  return HeadShard{query, {kv, kv + 1}};
}

struct RankLayout {
  int64_t ranks = 1, tp = 1, ep = 1, dp = 1, attentionTp = 1;

  int64_t groupSize() const { return ranks / dp; } ///< ranks of a data parallel group
  int64_t expertGroup(int64_t rank) const { return rank / tp; }
  int64_t expertShard(int64_t rank) const { return rank % tp; }
  int64_t attentionShard(int64_t rank) const { return rank % groupSize() % attentionTp; }

  std::vector<int64_t> allRanks() const { return span(0, ranks); }
  /// The data parallel group of `rank`.
  std::vector<int64_t> groupRanks(int64_t rank) const {
    return span(rank / groupSize() * groupSize(), groupSize());
  }
  /// `parts` neighbours within the group of `rank`, itself among them; parts divides groupSize().
  std::vector<int64_t> shardRanks(int64_t rank, int64_t parts) const {
    return span(rank / parts * parts, parts);
  }
  /// The ranks with the place of `rank` in every data parallel group, in the order of groups.
  std::vector<int64_t> columnRanks(int64_t rank) const {
    std::vector<int64_t> out;
    for (int64_t group = 0; group < dp; ++group)
      out.push_back(group * groupSize() + rank % groupSize());
    return out;
  }

private:
  static std::vector<int64_t> span(int64_t first, int64_t count) {
    std::vector<int64_t> out(count);
    std::iota(out.begin(), out.end(), first);
    return out;
  }
};

} // namespace sluice

#endif // SLUICE_PASSES_PARTITION_RANKLAYOUT_H
