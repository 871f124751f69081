//===- LatencyHistogram.cpp - Log-linear histogram of durations -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A duration of n nanoseconds belongs to the octave of its highest bit and, within it, to the
// bucket of the five bits below. Durations under 32 ns have a bucket each.
//
//===------------------------------------------------------------------------===//
#include "sluice/telemetry.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace sluice {

int LatencyHistogram::bucketOf(uint64_t nanoseconds) {
  int octave = std::bit_width(nanoseconds) - 1;
  if (octave < kSubBits)
    return static_cast<int>(nanoseconds);
  int shift = octave - kSubBits;
  return (shift << kSubBits) + static_cast<int>(nanoseconds >> shift);
}

double LatencyHistogram::middleOf(int bucket) {
  constexpr int kSub = 1 << kSubBits;
  if (bucket < 2 * kSub)
    return bucket * 1e-9; // these hold one value each
  int shift = (bucket >> kSubBits) - 1;
  double low = std::ldexp(kSub + bucket % kSub, shift), width = std::ldexp(1, shift);
  return (low + (width - 1) / 2) * 1e-9;
}

void LatencyHistogram::record(double seconds) {
  constexpr double kLimit = static_cast<double>((uint64_t(1) << kOctaves) - 1) * 1e-9;
  double clamped = seconds > 0 ? std::min(seconds, kLimit) : 0; // NaN compares false
  auto nanoseconds = static_cast<uint64_t>(clamped * 1e9 + 0.5);
  ++buckets[static_cast<size_t>(std::min(bucketOf(nanoseconds), kBuckets - 1))];
  minSeconds = total ? std::min(minSeconds, clamped) : clamped;
  maxSeconds = std::max(maxSeconds, clamped);
  sumSeconds += clamped;
  ++total;
}

void LatencyHistogram::merge(const LatencyHistogram &other) {
  if (other.total == 0)
    return;
  for (size_t i = 0; i < buckets.size(); ++i)
    buckets[i] += other.buckets[i];
  minSeconds = total ? std::min(minSeconds, other.minSeconds) : other.minSeconds;
  maxSeconds = std::max(maxSeconds, other.maxSeconds);
  sumSeconds += other.sumSeconds;
  total += other.total;
}

double LatencyHistogram::quantile(double quantile) const {
  if (total == 0)
    return 0;
  double wanted = std::ceil(std::clamp(quantile, 0.0, 1.0) * static_cast<double>(total));
  uint64_t rank = std::max<uint64_t>(static_cast<uint64_t>(wanted), 1), seen = 0;
  for (int i = 0; i < kBuckets; ++i) {
    seen += buckets[static_cast<size_t>(i)];
    if (seen >= rank)
      return std::clamp(middleOf(i), minSeconds, maxSeconds);
  }
  return maxSeconds;
}

} // namespace sluice
