//===- BucketPlanner.cpp - Which batch sizes get a program ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Lowering a bucket to the largest step it serves never costs anything, so an optimal set consists
// of step sizes of the histogram and the maximum. Over those candidates in ascending order,
// best[b][j] = least padding of all steps up to candidate j with b buckets of which the last is j.
//
//===----------------------------------------------------------------------===//
#include "passes/Schedule/BucketPlanner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

namespace sluice {

Result<std::vector<int64_t>> BucketPlanner::geometric() const {
  if (options.maxTokens < 1)
    return invalidArgument("max_batch_tokens = " + std::to_string(options.maxTokens) +
                           " must be at least 1");
  std::vector<int64_t> buckets;
  for (int64_t tokens = 1; tokens < options.maxTokens && tokens > 0; tokens *= 2)
    buckets.push_back(tokens);
  buckets.push_back(options.maxTokens);
  return buckets;
}

Result<std::vector<int64_t>> BucketPlanner::plan(const std::vector<StepFrequency> &arrivals) const {
  if (options.maxTokens < 1 || options.maxBuckets < 1)
    return invalidArgument("max_batch_tokens = " + std::to_string(options.maxTokens) +
                           " and max_buckets = " + std::to_string(options.maxBuckets) +
                           " must be at least 1");
  if (!std::isfinite(options.bucketCost) || options.bucketCost < 0)
    return invalidArgument("the cost of a bucket must be finite and not negative");
  std::map<int64_t, double> histogram;
  for (const StepFrequency &arrival : arrivals) {
    if (arrival.tokens < 1 || arrival.tokens > options.maxTokens)
      return invalidArgument("steps of " + std::to_string(arrival.tokens) +
                             " tokens are outside [1, " + std::to_string(options.maxTokens) +
                             "]; raise max_batch_tokens or drop them from the histogram");
    if (!std::isfinite(arrival.count) || arrival.count < 0)
      return invalidArgument("the count of steps of " + std::to_string(arrival.tokens) +
                             " tokens must be finite and not negative");
    if (arrival.count > 0)
      histogram[arrival.tokens] += arrival.count;
  }
  histogram.try_emplace(options.maxTokens, 0.0);

  // Prefix sums over the candidates: steps and tokens below each of them.
  std::vector<int64_t> sizes;
  std::vector<double> steps = {0}, tokens = {0};
  for (auto [size, count] : histogram) {
    sizes.push_back(size);
    steps.push_back(steps.back() + count);
    tokens.push_back(tokens.back() + count * double(size));
  }
  const size_t n = sizes.size();
  auto padding = [&](size_t from, size_t bucket) { // of the steps from..bucket in bucket
    return double(sizes[bucket]) * (steps[bucket + 1] - steps[from]) -
           (tokens[bucket + 1] - tokens[from]);
  };

  const size_t limit = std::min<size_t>(n, size_t(options.maxBuckets));
  std::vector<std::vector<double>> best(limit, std::vector<double>(n));
  std::vector<std::vector<size_t>> previous(limit, std::vector<size_t>(n));
  for (size_t j = 0; j < n; ++j)
    best[0][j] = padding(0, j);
  for (size_t b = 1; b < limit; ++b)
    for (size_t j = 0; j < n; ++j) {
      best[b][j] = std::numeric_limits<double>::infinity();
      for (size_t i = b - 1; i < j; ++i)
        if (double total = best[b - 1][i] + padding(i + 1, j); total < best[b][j]) {
          best[b][j] = total;
          previous[b][j] = i;
        }
    }
  size_t chosen = 0;
  auto totalOf = [&](size_t b) { return best[b][n - 1] + options.bucketCost * double(b + 1); };
  for (size_t b = 1; b < limit; ++b)
    if (totalOf(b) < totalOf(chosen))
      chosen = b;

  std::vector<int64_t> buckets(chosen + 1);
  for (size_t b = chosen + 1, j = n - 1; b-- > 0; j = previous[b][j])
    buckets[b] = sizes[j];
  return buckets;
}

double BucketPlanner::cost(const std::vector<StepFrequency> &arrivals,
                           const std::vector<int64_t> &buckets) const {
  double total = options.bucketCost * double(buckets.size());
  for (const StepFrequency &arrival : arrivals) {
    int64_t bucket = *std::lower_bound(buckets.begin(), buckets.end(), arrival.tokens);
    total += arrival.count * double(bucket - arrival.tokens);
  }
  return total;
}

} // namespace sluice
