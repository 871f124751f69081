//===- RouterRules.cpp - Choice of experts for one token --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// All arithmetic is float32, as in the models' own code. Selection is by insertion into a sorted
// list of top-k entries: one comparison for most experts.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Router.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice::host {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int64_t kMaxTopK = 64; ///< as KernelFamilies.cpp checks

float notNan(float value) { return std::isnan(value) ? kMinusInfinity : value; }

/// The best entries seen so far, best first.
struct TopList {
  explicit TopList(int64_t capacity) : capacity(capacity) {}

  void offer(int32_t id, float value) {
    if (count == capacity && !(value > values[count - 1]))
      return;
    int64_t at = count < capacity ? count++ : count - 1;
    for (; at > 0 && value > values[at - 1]; --at) {
      values[at] = values[at - 1];
      ids[at] = ids[at - 1];
    }
    values[at] = value;
    ids[at] = id;
  }

  int64_t capacity, count = 0;
  float values[kMaxTopK];
  int32_t ids[kMaxTopK];
};

/// Phi's sparse mixer at inference: the best expert weighted by a softmax over those within a
/// relative distance 2 * jitter of it, then the same without the winner (modeling_phimoe.py,
/// sparsemixer()).
void sparseMixer(const abi::RouterParams &params, const float *logits, int32_t *ids,
                 float *weights) {
  const float limit = float(2 * params.jitter);
  int32_t winner = -1;
  for (int choice = 0; choice < 2; ++choice) {
    int32_t best = -1;
    for (int32_t e = 0; e < params.experts; ++e) {
      if (e != winner && (best < 0 || notNan(logits[e]) > notNan(logits[best])))
        best = e;
    }
    const float greatest = logits[best];
    float sum = 0;
    for (int32_t e = 0; e < params.experts; ++e) {
      const float factor = std::max(std::fabs(logits[e]), greatest);
      if (e != winner && !((greatest - logits[e]) / factor > limit))
        sum += std::exp(logits[e] - greatest);
    }
    ids[choice] = best;
    weights[choice] = float(params.scale) / sum;
    winner = best;
  }
}

} // namespace

void chooseExperts(const abi::RouterParams &params, ScoreRow *scoreRow, float *logits,
                   float *scores, const float *correction, int32_t *ids, float *weights) {
  if (params.sparseMixer)
    return sparseMixer(params, logits, ids, weights);

  const int64_t experts = params.experts, topK = params.topK;
  if (params.scoreFirst)
    scoreRow(params.score, logits, experts, scores);
  const float *values = params.scoreFirst ? scores : logits;
  auto choiceValue = [&](int64_t e) {
    return notNan(correction ? values[e] + correction[e] : values[e]);
  };

  TopList top(topK);
  if (params.groups == 1) {
    for (int64_t e = 0; e < experts; ++e)
      top.offer(int32_t(e), choiceValue(e));
  } else {
    // Group scores take the row that is no longer (or not yet) needed.
    float *groupScores = params.scoreFirst ? logits : scores;
    const int64_t size = experts / params.groups;
    for (int64_t g = 0; g < params.groups; ++g) {
      TopList best(params.groupScore == abi::GroupScore::kTop2Sum ? std::min<int64_t>(2, size) : 1);
      for (int64_t e = g * size; e < (g + 1) * size; ++e)
        best.offer(int32_t(e), choiceValue(e));
      groupScores[g] = best.count == 2 ? best.values[0] + best.values[1] : best.values[0];
    }
    for (int64_t g = 0; g < params.groups; ++g) {
      int64_t rank = 0;
      for (int64_t other = 0; other < params.groups; ++other)
        rank += groupScores[other] > groupScores[g] ||
                (groupScores[other] == groupScores[g] && other < g);
      for (int64_t e = g * size; rank < params.topkGroup && e < (g + 1) * size; ++e)
        top.offer(int32_t(e), choiceValue(e));
    }
  }

  std::copy_n(top.ids, topK, ids);
  for (int64_t i = 0; i < topK; ++i)
    weights[i] = values[ids[i]];
  if (!params.scoreFirst)
    scoreRow(params.score, weights, topK, weights);
  float sum = 0;
  for (int64_t i = 0; i < topK; ++i)
    sum += weights[i];
  const float divisor = params.renormalize ? sum + float(params.epsilon) : 1.0f;
  for (int64_t i = 0; i < topK; ++i)
    weights[i] = weights[i] / divisor * float(params.scale);
}

void sortByExpert(const int32_t *ids, int64_t rows, int64_t topK, int64_t experts, int32_t *offsets,
                  int32_t *order, int32_t *inverse, uint32_t *counts, int32_t *cursor) {
  const int64_t pairs = rows * topK;
  std::fill_n(cursor, experts, 0);
  for (int64_t pair = 0; pair < pairs; ++pair)
    ++cursor[ids[pair]];
  int32_t next = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t tokens = cursor[e];
    counts[e] += uint32_t(tokens);
    offsets[e] = cursor[e] = next;
    next += tokens;
  }
  offsets[experts] = next;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int32_t row = cursor[ids[pair]]++;
    order[row] = int32_t(pair);
    inverse[pair] = row;
  }
}

} // namespace sluice::host
