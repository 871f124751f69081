//===- Router.h - Choice of experts for one token ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The routing rules of published models as one function of a token's logits, separate from the
// product and the sort around it.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_ROUTER_H
#define SLUICE_RUNTIME_DEVICE_HOST_ROUTER_H

#include "runtime/artifact/KernelFamilies.h"

#include <cstdint>

namespace sluice::host {

/// scores[i] = score of logits[i]; a softmax is over all n. scores may be logits.
using ScoreRow = void(abi::ScoreFunction score, const float *logits, int64_t n, float *scores);

ScoreRow *chooseScoreRow();

/// Chooses params.topK experts for one token and their weights, best first; of equal values the
/// lower expert wins, and NaN counts as -infinity, so that ids are always distinct and in range.
/// `logits` [experts] includes the bias and is overwritten, as is `scores` [experts]. `correction`
/// may be null. Thread-safe.
void chooseExperts(const abi::RouterParams &params, ScoreRow *scoreRow, float *logits,
                   float *scores, const float *correction, int32_t *ids, float *weights);

/// Sorts the pairs of `rows` tokens by expert, stably: see RouterParams. Adds to `counts`. `cursor`
/// [experts] is scratch.
void sortByExpert(const int32_t *ids, int64_t rows, int64_t topK, int64_t experts, int32_t *offsets,
                  int32_t *order, int32_t *inverse, uint32_t *counts, int32_t *cursor);

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_ROUTER_H
