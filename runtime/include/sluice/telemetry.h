//===- telemetry.h - What a running engine counts ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Latencies go into histograms of fixed size, so that recording one costs an increment and a
// distribution over millions of steps costs no more memory than one over ten. Counters say what the
// steps were made of; expert counters say where tokens were routed.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TELEMETRY_H
#define SLUICE_TELEMETRY_H

#include <array>
#include <cstdint>

namespace sluice {

/// A log-linear histogram of durations: 32 buckets per factor of two, so that a percentile is
/// within 1.6 % of the exact one, from 1 ns to 4.8 hours (longer ones count as that). After
/// HdrHistogram (https://hdrhistogram.org). Allocates nothing. Not thread-safe.
class LatencyHistogram {
public:
  /// Adds one duration; negative and NaN count as 0.
  void record(double seconds);
  /// Adds everything `other` has seen.
  void merge(const LatencyHistogram &other);
  void clear() { *this = LatencyHistogram(); }

  uint64_t count() const { return total; }
  double sum() const { return sumSeconds; }
  double mean() const { return total ? sumSeconds / static_cast<double>(total) : 0; }
  /// The exact extremes; 0 when nothing was recorded.
  double min() const { return total ? minSeconds : 0; }
  double max() const { return maxSeconds; }

  /// The duration in seconds that the fraction `quantile` (0 to 1) of all durations does not
  /// exceed; 0 when nothing was recorded.
  double quantile(double quantile) const;
  double p50() const { return quantile(0.50); }
  double p90() const { return quantile(0.90); }
  double p99() const { return quantile(0.99); }

private:
  static constexpr int kSubBits = 5; ///< 32 buckets per octave
  static constexpr int kOctaves = 44;
  static constexpr int kBuckets = (kOctaves - kSubBits + 1) << kSubBits;
  static int bucketOf(uint64_t nanoseconds);
  static double middleOf(int bucket);

  std::array<uint64_t, kBuckets> buckets{};
  uint64_t total = 0;
  double sumSeconds = 0, minSeconds = 0, maxSeconds = 0;
};

/// Everything an engine counts about its steps, since load.
struct EngineTelemetry {
  LatencyHistogram steps;       ///< of all steps
  LatencyHistogram decodeSteps; ///< of steps in which every entry had one token
  uint64_t tokens = 0;          ///< tokens run
  uint64_t bucketTokens = 0;    ///< tokens of the buckets they ran in; the rest is slack
  uint64_t entries = 0;         ///< sequences in all steps
  uint64_t logitRows = 0;
  uint64_t sampledTokens = 0;
  /// Distinct experts used, summed over steps and MoE layers: what a step had to read of the
  /// experts' weights.
  uint64_t distinctExperts = 0;
};

} // namespace sluice

#endif // SLUICE_TELEMETRY_H
