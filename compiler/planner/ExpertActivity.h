//===- ExpertActivity.h - How many experts a batch wakes ----------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Decoding is paid in distinct experts: each one that any token of the batch chose is read from
// memory once. Tokens of a decode batch come from different sequences and choose independently of
// each other, so what counts is how likely each expert is: uniform, or from a profile. When the
// profile says how many tokens it saw, a batch is a sample of them without replacement and the
// expectation is exact (hypergeometric), which matters where the batch is a good part of the
// profile.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_EXPERTACTIVITY_H
#define SLUICE_COMPILER_PLANNER_EXPERTACTIVITY_H

#include "sluice/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sluice::planner {

/// How the tokens of a workload chose, layer by layer.
struct RoutingStats {
  std::string source; ///< for people: "uniform", or the files of the profile
  int64_t tokens = 0; ///< that were counted; 0 = probabilities of independent tokens
  /// [MoE layers][experts] probability that a token chooses the expert; a layer adds up to top_k.
  std::vector<std::vector<double>> chosen;
  /// The placement of a layer: per expert group the experts in its slots, -1 = empty; empty when
  /// the experts are dealt out in order.
  std::vector<std::vector<std::vector<int64_t>>> placement;
};

/// Every expert alike.
std::vector<double> uniformChoice(int64_t experts, int64_t topK);

/// Probabilities from the counts of a profile [layers][experts] for layers of `experts` experts and
/// `topK` choices. Layers of zeros only (dense ones in profiles that list all layers) are dropped;
/// what remains must be as many as `moeLayers`. Fails when counts are negative or not finite, an
/// expert was chosen by more tokens than there were, or the shape is that of another model.
Result<RoutingStats> statsFromCounts(const std::vector<std::vector<double>> &counts,
                                     int64_t moeLayers, int64_t experts, int64_t topK,
                                     const std::string &source);

/// Probability that at least one of `batch` tokens chooses an expert that a token chooses with
/// probability `chosen`; `tokens` as in RoutingStats.
double activeProbability(double chosen, int64_t batch, int64_t tokens);

/// Expected number of distinct experts of a batch.
double distinctExperts(std::span<const double> chosen, int64_t batch, int64_t tokens);

/// Mean number of distinct experts of `batch` consecutive tokens of a token-level trace
/// ids[tokens, layers, topK], over its layers with routing and up to `windows` windows spread over
/// it. Ids of 0xffff stand for no expert. 0 when the trace is shorter than the batch.
double distinctInWindows(std::span<const uint16_t> ids, int64_t layers, int64_t topK, int64_t batch,
                         int64_t windows);

/// Expected rows that the tiles of one expert take: tokens rounded up to `tile`, over batches of
/// `batch` tokens each of which chooses it with probability `chosen`.
double tiledRows(double chosen, int64_t batch, int64_t tile, int64_t tokens);

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_EXPERTACTIVITY_H
