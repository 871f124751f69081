//===- ParallelPlanner.h - Which ranks do what --------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Weighs every way to share a model among R ranks: tp x ep inside expert layers, chosen freely,
// times dp groups for attention. A shape that a rule forbids stays in the table with the rule; one
// that does not fit stays with its bytes; of the others the one with the best balance of decode and
// prefill is chosen. A refusal says what would fit, found by planning it.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_PARALLELPLANNER_H
#define SLUICE_COMPILER_PLANNER_PARALLELPLANNER_H

#include "compiler/planner/CostModel.h"

#include <optional>
#include <string>
#include <vector>

namespace sluice::planner {

/// What is asked. 0 leaves a number open.
struct PlanRequest {
  int64_t ranks = 0; ///< 0: as many as the target has, or the fewest that fit
  int64_t tp = 0, ep = 0, dp = 0;
  int64_t slots = 0; ///< 0: one per expert
  int64_t decodeBatch =
      0; ///< sequences of the decode step that shapes are compared by; 0: max_seqs
  int64_t decodeContext = 0; ///< positions behind each; 0: half of max_seq_len
};

/// One row of the parallelism table.
struct Candidate {
  ParallelShape shape;
  std::string refusal; ///< the rule it breaks; empty when it is feasible
  ShapeFacts facts;
  RankMemory memory;            ///< of the fullest rank
  std::vector<RankSlabs> slabs; ///< of every rank, once the shape has been lowered
  bool fits = false;
  StepCost decode, prefill;
  double score = 0; ///< 1 = best in both decode and prefill; only of candidates that fit
};

/// Something that would fit where the request does not.
struct Remedy {
  std::string text; ///< "--num-pages 4096: 65536 cached tokens instead of 262144"
};

struct Decision {
  int64_t ranks = 0;
  Target target;                     ///< with room for the ranks
  std::vector<Candidate> candidates; ///< ordered: chosen first, then by score, then the others
  std::optional<size_t> chosen;      ///< index into candidates; none: nothing fits
  std::string reason;                ///< why the chosen one, or why none
  std::vector<Remedy> remedies;      ///< when nothing fits
  /// The candidate that the verdict is about: the chosen one, or the feasible one nearest to
  /// fitting; none when no shape is feasible.
  const Candidate *subject() const;
};

/// Plans. Pure: equal tables give equal decisions.
class ParallelPlanner {
public:
  /// Borrows its arguments. `stats` has one entry per MoE layer.
  ParallelPlanner(const ModelTable &model, const Target &target, const RoutingStats &stats)
      : model(model), target(target), stats(stats) {}

  /// Fails with kInvalidArgument when the request contradicts itself, the target has fewer devices
  /// or no shape is feasible. A request that does not fit is a decision without a choice.
  Result<Decision> plan(const PlanRequest &request) const;

  /// One shape, checked and costed.
  Candidate evaluate(const ParallelShape &shape, const Target &sized,
                     const PlanRequest &request) const;

private:
  Result<Decision> planRanks(int64_t ranks, const PlanRequest &request) const;
  void findRemedies(Decision &decision, const PlanRequest &request) const;

  const ModelTable &model;
  const Target &target;
  const RoutingStats &stats;
};

/// The refusal of a decision without a choice: tightest resource, needed, available, and what would
/// fit. kResourceExhausted.
Status refusalOf(const Decision &decision, const ModelTable &model);

/// Bytes that the weights of products would take in a format of --quantize ("fp8-block", ...),
/// estimated from the numbers of the model; other weights stay.
uint64_t bytesInFormat(const ModelTable &model, double bitsPerNumber);

/// The largest number of sequences of each context length whose caches fit beside the weights.
struct ContextRow {
  int64_t context = 0, sequences = 0;
};
std::vector<ContextRow> largestBatches(const ModelTable &model, const Candidate &candidate,
                                       const Target &target);

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_PARALLELPLANNER_H
