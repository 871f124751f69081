//===- CostModel.h - How long a step takes ------------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One formula for three regimes. A part of a step on a rank takes
//
//     fixed + max(bytes / bandwidth, operations / peak) + communication
//
// Tiny batches pay the fixed cost of kernel boundaries and messages; decoding pays the bytes of the
// distinct experts that its tokens wake; prefill pays tile-rounded tokens. The slowest expert
// group sets the time of a layer. Constants come from the target and are replaced by measured ones
// through a calibration file; nothing here is fitted.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_COSTMODEL_H
#define SLUICE_COMPILER_PLANNER_COSTMODEL_H

#include "compiler/planner/ExpertActivity.h"
#include "compiler/planner/ModelTable.h"
#include "compiler/planner/RankMemory.h"
#include "compiler/target/Target.h"

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::planner {

/// What one step works on.
struct StepLoad {
  int64_t tokens = 1;    ///< of all data parallel groups
  int64_t context = 0;   ///< cached positions that a token attends to, on average
  int64_t sequences = 1; ///< that the tokens belong to: as many as tokens when decoding
  int64_t logitRows = 1;
};

/// Predicted time of a step on the slowest rank, and where it goes.
struct StepCost {
  double seconds = 0;
  double attention = 0, experts = 0, dense = 0, head = 0; ///< max(bytes, operations) of each part
  double communication = 0;
  double fixed = 0;               ///< kernel boundaries
  double bytes = 0;               ///< read by the slowest rank
  double distinctExperts = 0;     ///< per layer, mean over layers
  double largestGroupExperts = 0; ///< distinct experts of the busiest group, mean over layers
};

/// Seconds of an exchange of `bytes` (the whole result) between `ranks` neighbouring ranks: rings
/// within a node, then between nodes, each with the latency of a tree.
double allReduceSeconds(const Target &target, int64_t ranks, double bytes);
double allGatherSeconds(const Target &target, int64_t ranks, double bytes);

/// Costs of one shape of one model on one target. Immutable once made.
class CostModel {
public:
  /// `facts` are those of checkShape(model, shape). Borrows nothing but `stats`, which must outlive
  /// it and have one entry per MoE layer.
  CostModel(const ModelTable &model, const ParallelShape &shape, const ShapeFacts &facts,
            const Target &target, const RoutingStats &stats);

  StepCost step(const StepLoad &load) const;

  /// The load of a decode step: `sequences` tokens, each with `context` positions behind it.
  static StepLoad decode(int64_t sequences, int64_t context) {
    return {sequences, context, sequences, sequences};
  }
  /// The load of a prefill step of `tokens` tokens of one prompt, half of which an average token
  /// attends to.
  static StepLoad prefill(int64_t tokens) { return {tokens, tokens / 2, 1, 1}; }

private:
  /// A product or a group of them on a rank.
  struct Part {
    double bytes = 0; ///< of the weights
    double flops = 0; ///< of one row, at the peak of their format: in seconds
  };
  struct Layer {
    Part attention, dense, router;
    Part expert;               ///< one expert's shard
    double kvBytes = 0;        ///< of one cached position
    double attentionFlops = 0; ///< seconds of one (query, position) pair
    int64_t window = 0;
    bool gathersDense = true; ///< dense parts see the rows of all groups
    int64_t launches = 0;
    int moe = -1;                                                ///< index into stats
    std::vector<std::vector<std::pair<int64_t, double>>> groups; ///< experts and 1 / copies
  };
  void addWeight(const TableWeight &shard, const Target &target);
  StepCost layerCost(const Layer &layer, const StepLoad &load) const;

  Target target;
  ParallelShape shape;
  ShapeFacts facts;
  const RoutingStats &stats;
  std::vector<Layer> layers;
  Part embedding, head;
  double rowBytes = 0; ///< of one row of activations
  int64_t otherLaunches = 0;
  double logitBytes = 0;
};

/// One point of the batch curve.
struct BatchPoint {
  int64_t batch = 0;
  StepCost cost;
  double tokensPerSecond = 0;
  /// Distinct experts of as many consecutive tokens of the profile's traces; 0 without traces.
  double consecutiveExperts = 0;
};

struct BatchCurve {
  int64_t context = 0;
  std::vector<BatchPoint> points;
  /// Index of the sweet spot: the largest batch up to which each doubling of the batch still gives
  /// half again as many tokens per second. Past it latency grows faster than throughput gains.
  size_t sweetSpot = 0;
};

/// Decode steps of 1, 2, 4, ... sequences and of `maxBatch`.
BatchCurve batchCurve(const CostModel &costs, int64_t maxBatch, int64_t context);

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_COSTMODEL_H
