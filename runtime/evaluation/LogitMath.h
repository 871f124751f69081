//===- LogitMath.h - Small facts about a row of logits ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EVALUATION_LOGITMATH_H
#define SLUICE_RUNTIME_EVALUATION_LOGITMATH_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

namespace sluice {

/// log(sum(exp(row))) in double precision; `row` is not empty.
inline double logSumExp(std::span<const float> row) {
  double largest = *std::max_element(row.begin(), row.end()), sum = 0;
  for (float value : row)
    sum += std::exp(double(value) - largest);
  return largest + std::log(sum);
}

/// Index of the largest logit (the first of equals) and its distance to the next one.
inline std::pair<int32_t, float> argmaxAndMargin(std::span<const float> row) {
  auto best = std::max_element(row.begin(), row.end());
  float second = -INFINITY;
  for (auto it = row.begin(); it != row.end(); ++it)
    if (it != best)
      second = std::max(second, *it);
  return {int32_t(best - row.begin()), *best - second};
}

} // namespace sluice

#endif // SLUICE_RUNTIME_EVALUATION_LOGITMATH_H
