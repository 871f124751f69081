//===- CostModel.cpp - How long a step takes --------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/CostModel.h"

#include <algorithm>
#include <cmath>

namespace sluice::planner {
namespace {

/// Ranks of a group within a node and the number of nodes it spans.
std::pair<int64_t, int64_t> spread(const Target &target, int64_t ranks) {
  int64_t inner = std::min(ranks, target.devicesPerNode);
  return {inner, (ranks + inner - 1) / inner};
}

/// Expected largest of n standard normal numbers (Royston 1982, rounded), by powers of two.
double expectedMaximum(size_t n) {
  constexpr double values[] = {0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.344, 2.595, 2.826, 3.042};
  double position = std::min(std::log2(double(std::max<size_t>(n, 1))), 8.999);
  size_t below = size_t(position);
  return values[below] + (values[below + 1] - values[below]) * (position - double(below));
}

double tree(int64_t ranks) { return std::ceil(std::log2(double(std::max<int64_t>(ranks, 1)))); }

/// One pass of a ring: every rank sends (n - 1) / n of the bytes.
double ring(const Link &link, int64_t ranks, double bytes) {
  if (ranks <= 1)
    return 0;
  return tree(ranks) * link.latencySeconds +
         bytes * double(ranks - 1) / double(ranks) / link.bytesPerSecond;
}

} // namespace

double allGatherSeconds(const Target &target, int64_t ranks, double bytes) {
  auto [inner, nodes] = spread(target, ranks);
  // Between nodes, each of the devices of a node carries its part.
  return ring(target.intraNode, inner, bytes) +
         ring(target.interNode, nodes, bytes / double(inner));
}

double allReduceSeconds(const Target &target, int64_t ranks, double bytes) {
  return 2 * allGatherSeconds(target, ranks, bytes);
}

CostModel::CostModel(const ModelTable &model, const ParallelShape &shape, const ShapeFacts &facts,
                     const Target &target, const RoutingStats &stats)
    : target(target), shape(shape), facts(facts), stats(stats), layers(model.layers.size()) {
  int moe = 0;
  int64_t launches = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const TableLayer &from = model.layers[i];
    Layer &layer = layers[i];
    layer.window = from.window;
    layer.gathersDense = facts.ffn[i].overAll;
    layer.launches = from.launches;
    launches += from.launches;
    double heads = double(from.heads) / double(facts.attentionTp);
    // Scores and values; of a latent cache both are as wide as the latent row.
    double width =
        from.latent > 0 ? 2.0 * double(from.latent) : double(from.headDim + from.valueDim);
    layer.attentionFlops = 2 * heads * width / target.peakFor(model.kvType);
    if (from.experts == 0)
      continue;
    layer.moe = moe++;
    layer.groups.resize(size_t(shape.ep));
    const auto *placed = size_t(layer.moe) < stats.placement.size() &&
                                 stats.placement[size_t(layer.moe)].size() == size_t(shape.ep)
                             ? &stats.placement[size_t(layer.moe)]
                             : nullptr;
    std::vector<double> copies(size_t(from.experts), 0.0);
    for (int64_t group = 0; group < shape.ep; ++group) {
      auto add = [&](int64_t expert) {
        if (expert < 0 || expert >= from.experts)
          return;
        layer.groups[size_t(group)].push_back({expert, 1});
        copies[size_t(expert)] += 1;
      };
      if (placed) {
        for (int64_t expert : (*placed)[size_t(group)])
          add(expert);
      } else {
        for (int64_t e = group * from.experts / shape.ep; e < (group + 1) * from.experts / shape.ep;
             ++e)
          add(e);
      }
    }
    for (auto &group : layer.groups)
      for (auto &[expert, share] : group)
        share = 1 / copies[size_t(expert)];
  }
  otherLaunches = model.launches - launches;
  rowBytes = double(model.hidden) * 4;
  logitBytes = double(model.vocab) * 4;
  for (const TableWeight &weight : model.weights)
    addWeight(shardOf(weight, model, shape, facts), target);
  for (Layer &layer : layers)
    layer.kvBytes = kvBytesPerToken(model, facts) / double(layers.size());
}

void CostModel::addWeight(const TableWeight &shard, const Target &target) {
  // A product of one row takes two operations per number; vectors and tables are not multiplied.
  bool isProduct = shard.layout != "row_major";
  double blobs = double(shard.blobs);
  Part part{double(shard.bytes),
            isProduct ? 2 * double(shard.elements()) / target.peakFor(shard.format) : 0};
  auto add = [&](Part &to, double share = 1) {
    to.bytes += part.bytes * share;
    to.flops += part.flops * share;
  };
  Layer *layer = shard.layer >= 0 ? &layers[size_t(shard.layer)] : nullptr;
  switch (shard.role) {
  case WeightRole::kEmbedding:
    // Looked up: a row per token. A table that is the head too is counted when it is multiplied.
    embedding.bytes += part.bytes / double(shard.blobs * shard.n);
    return;
  case WeightRole::kHead:
    return add(head);
  case WeightRole::kExperts:
    return add(layer->expert, 1 / blobs);
  case WeightRole::kRouter:
    return add(layer->router);
  case WeightRole::kShared:
  case WeightRole::kDense:
    return add(layer->dense);
  case WeightRole::kAttention:
  case WeightRole::kTables:
    return layer ? add(layer->attention) : void();
  }
}

StepCost CostModel::layerCost(const Layer &layer, const StepLoad &load) const {
  StepCost cost;
  const double bandwidth = target.memoryBytesPerSecond;
  const double tokens = double(load.tokens);
  // The largest data parallel group.
  const double ownTokens = double((load.tokens + shape.dp - 1) / shape.dp);
  const double ownSequences = double((load.sequences + shape.dp - 1) / shape.dp);
  const double seen =
      double(layer.window > 0 ? std::min(layer.window, load.context) : load.context);

  // Caches are read once per sequence: queries of one prompt share the read.
  double bytes = layer.attention.bytes + ownSequences * seen * layer.kvBytes;
  double seconds = ownTokens * layer.attention.flops + ownTokens * seen * layer.attentionFlops;
  cost.attention = std::max(bytes / bandwidth, seconds);
  cost.bytes = bytes;

  double denseBytes = layer.dense.bytes + layer.router.bytes;
  double denseTokens = layer.gathersDense ? tokens : ownTokens;
  cost.dense = std::max(denseBytes / bandwidth,
                        denseTokens * layer.dense.flops + tokens * layer.router.flops);
  cost.bytes += denseBytes;

  if (layer.moe >= 0) {
    const std::vector<double> &chosen = stats.chosen[size_t(layer.moe)];
    double mostActive = 0, mostRows = 0, activeVariance = 0, rowVariance = 0, held = 0;
    for (const auto &group : layer.groups) {
      double active = 0, rows = 0;
      for (auto [expert, share] : group) {
        double p = chosen[size_t(expert)];
        // Of several copies one serves all tokens of a decode step, and is awake as often as the
        // expert; which one differs from step to step.
        double awake = activeProbability(p, load.tokens, stats.tokens);
        active += share * awake;
        activeVariance += share * awake * (1 - share * awake);
        rows += tiledRows(p * share, load.tokens, target.tileTokens, stats.tokens);
        rowVariance += tokens * p * share * (1 - p * share);
      }
      cost.distinctExperts += active;
      mostActive = std::max(mostActive, active);
      mostRows = std::max(mostRows, rows);
      held = std::max(held, double(group.size()));
    }
    // The busiest of several groups is busier than the busiest on average.
    double groups = double(layer.groups.size()), above = expectedMaximum(layer.groups.size());
    double most = std::min(held, cost.distinctExperts);
    cost.largestGroupExperts =
        std::min(mostActive + above * std::sqrt(activeVariance / groups), most);
    mostRows += above * std::sqrt(rowVariance / groups);
    double groupBytes = cost.largestGroupExperts * layer.expert.bytes;
    cost.experts = std::max(groupBytes / bandwidth, mostRows * layer.expert.flops);
    cost.bytes += groupBytes;
  }

  const int64_t ranks = shape.ranks();
  if (ranks > 1) {
    double ownRows = ownTokens * rowBytes, rows = tokens * rowBytes;
    if (facts.attentionTp > 1)
      cost.communication += allReduceSeconds(target, facts.attentionTp, ownRows);
    // A gather before and a scatter after the feed-forward part, or the sum of its parts.
    cost.communication += shape.dp > 1 ? 2 * allGatherSeconds(target, ranks, rows)
                                       : allReduceSeconds(target, ranks, rows);
  }
  cost.fixed = double(layer.launches) * target.launchSeconds;
  return cost;
}

StepCost CostModel::step(const StepLoad &load) const {
  StepCost sum;
  int64_t moeLayers = 0;
  for (const Layer &layer : layers) {
    StepCost cost = layerCost(layer, load);
    sum.attention += cost.attention;
    sum.experts += cost.experts;
    sum.dense += cost.dense;
    sum.communication += cost.communication;
    sum.fixed += cost.fixed;
    sum.bytes += cost.bytes;
    sum.distinctExperts += cost.distinctExperts;
    sum.largestGroupExperts += cost.largestGroupExperts;
    moeLayers += layer.moe >= 0;
  }
  if (moeLayers > 0) {
    sum.distinctExperts /= double(moeLayers);
    sum.largestGroupExperts /= double(moeLayers);
  }
  double headBytes =
      head.bytes + double(load.tokens) * embedding.bytes + double(load.logitRows) * logitBytes;
  sum.head = std::max(headBytes / target.memoryBytesPerSecond, double(load.logitRows) * head.flops);
  sum.bytes += headBytes;
  sum.fixed += double(otherLaunches) * target.launchSeconds;
  sum.seconds = sum.attention + sum.experts + sum.dense + sum.head + sum.communication + sum.fixed;
  return sum;
}

BatchCurve batchCurve(const CostModel &costs, int64_t maxBatch, int64_t context) {
  BatchCurve curve;
  curve.context = context;
  for (int64_t batch = 1; batch <= maxBatch; batch *= 2) {
    curve.points.push_back({batch, costs.step(CostModel::decode(batch, context))});
    if (batch < maxBatch && batch * 2 > maxBatch)
      curve.points.push_back({maxBatch, costs.step(CostModel::decode(maxBatch, context))});
  }
  for (BatchPoint &point : curve.points)
    point.tokensPerSecond = double(point.batch) / point.cost.seconds;
  for (size_t i = 1; i < curve.points.size(); ++i) {
    const BatchPoint &before = curve.points[i - 1], &point = curve.points[i];
    double growth = double(point.batch) / double(before.batch);
    // Half again per doubling, in proportion for the shorter last step.
    if (point.tokensPerSecond < before.tokensPerSecond * std::pow(1.5, std::log2(growth)))
      break;
    curve.sweetSpot = i;
  }
  return curve;
}

} // namespace sluice::planner
