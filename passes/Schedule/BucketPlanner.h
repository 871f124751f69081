//===- BucketPlanner.h - Which batch sizes get a program ------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A step of t tokens runs in the smallest bucket that holds it and pays for the bucket's size. More
// buckets waste less, but each costs memory, capture time at load and plan size. Without knowledge
// of the traffic a geometric series bounds the waste at a factor of two; with a histogram of step
// sizes the best set is found exactly by dynamic programming.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_SCHEDULE_BUCKETPLANNER_H
#define SLUICE_PASSES_SCHEDULE_BUCKETPLANNER_H

#include "sluice/status.h"

#include <cstdint>
#include <vector>

namespace sluice {

/// How often steps of a size arrive; any unit.
struct StepFrequency {
  int64_t tokens = 0; ///< at least 1
  double count = 0;   ///< not negative, finite
};

struct BucketOptions {
  int64_t maxTokens = 0;   ///< size of the largest step, always a bucket
  int64_t maxBuckets = 16; ///< at least 1
  double bucketCost = 0;   ///< what one more bucket must save, in padded tokens
};

/// Immutable; safe to share between threads.
class BucketPlanner {
public:
  explicit BucketPlanner(BucketOptions options) : options(options) {}

  /// 1, 2, 4, ... and maxTokens; maxBuckets does not apply. Fails when maxTokens < 1.
  Result<std::vector<int64_t>> geometric() const;

  /// The ascending buckets with the least cost(), at most maxBuckets, the last one maxTokens. Fails
  /// when an entry is not within [1, maxTokens], a count is negative or not finite, or an option is
  /// out of range. O(n^2 * maxBuckets) for n distinct step sizes.
  Result<std::vector<int64_t>> plan(const std::vector<StepFrequency> &arrivals) const;

  /// Padded tokens of all arrivals, plus bucketCost for each bucket. `buckets` ascend and hold
  /// every arrival.
  double cost(const std::vector<StepFrequency> &arrivals,
              const std::vector<int64_t> &buckets) const;

private:
  BucketOptions options;
};

} // namespace sluice

#endif // SLUICE_PASSES_SCHEDULE_BUCKETPLANNER_H
