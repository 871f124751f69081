//===- RankMemory.h - What one rank stores ------------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Rules of sharding as arithmetic. They repeat what the partition pass does to weights and caches,
// in closed form, because planning weighs dozens of shapes and compiles one: a test holds both to
// the same bytes. Everything is a worst case: caches of all pages, activations of the largest
// bucket, routing buffers that hold every (token, choice) pair whatever the skew.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_RANKMEMORY_H
#define SLUICE_COMPILER_PLANNER_RANKMEMORY_H

#include "compiler/planner/ModelTable.h"
#include "compiler/target/Target.h"

#include <array>
#include <string>
#include <vector>

namespace sluice::planner {

/// How R ranks share the work: rank r holds shard r % tp of expert group r / tp, and belongs to
/// data parallel group r / (R / dp).
struct ParallelShape {
  int64_t tp = 1, ep = 1, dp = 1;
  int64_t slots = 0; ///< copies of experts in a layer, over all groups; 0 = one of each

  int64_t ranks() const { return tp * ep; }
  bool operator==(const ParallelShape &) const = default;
  /// "tp 2 ep 4 dp 1"
  std::string name() const;
};

/// How the dense part or the shared experts of a layer are split.
struct FfnSplit {
  int64_t parts = 1;   ///< ranks that share it; sets of as many others repeat them
  bool overAll = true; ///< over all ranks, on the rows of all data parallel groups
};

/// What follows from a shape for one model.
struct ShapeFacts {
  int64_t attentionTp = 1;        ///< ranks that share the heads of a data parallel group
  std::vector<FfnSplit> ffn;      ///< by layer
  int64_t pages = 0;              ///< of the caches of one data parallel group
  int64_t slotsPerGroup = 0;      ///< of the layer with the most experts
  std::vector<std::string> notes; ///< where work is done more than once, and why
};

/// Checks a shape against the model. The error says which rule it breaks and what would satisfy it:
/// a dp that does not divide the ranks, more data parallel groups than sequences, more expert
/// groups than experts, fewer slots than experts or more than groups have use for, a tp that leaves
/// a rank without a part of an expert or that cuts a block of columns with one scale.
Result<ShapeFacts> checkShape(const ModelTable &model, const ParallelShape &shape);

/// Bytes of one rank by item.
struct RankMemory {
  std::array<uint64_t, kWeightRoles> weights{}; ///< by WeightRole
  uint64_t padding = 0;                         ///< alignment between weights
  uint64_t replicas = 0; ///< of weights[kExperts]: copies beyond one of each expert
  uint64_t kv = 0, arena = 0, io = 0;
  uint64_t context = 0, collectives = 0, graphs = 0; ///< reserves of the target
  bool isExact = false; ///< slabs are those of a compiled plan, else arena and io are bounds

  uint64_t weightBytes() const; ///< the weights slab
  uint64_t slabBytes() const;   ///< weights, kv, arena and io
  uint64_t total() const { return slabBytes() + context + collectives + graphs; }
};

/// The slabs of one rank of a compiled plan.
struct RankSlabs {
  int64_t rank = 0;
  uint64_t weights = 0, kv = 0, arena = 0, io = 0;

  uint64_t total() const { return weights + kv + arena + io; }
};

/// The part of `weight` that the rank with the largest part stores; elements and bytes follow from
/// its sizes.
TableWeight shardOf(const TableWeight &weight, const ModelTable &model, const ParallelShape &shape,
                    const ShapeFacts &facts);

/// What the rank with the most bytes stores.
RankMemory rankMemory(const ModelTable &model, const ParallelShape &shape, const ShapeFacts &facts,
                      const Target &target);

/// Bytes of the caches that one more cached token takes on a rank (of its data parallel group).
double kvBytesPerToken(const ModelTable &model, const ShapeFacts &facts);

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_RANKMEMORY_H
