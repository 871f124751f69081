//===- ExpertCounters.h - Tokens per layer and expert -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Routers add to 32-bit counters in the IO slab, which wrap after hours of serving. Taking the
// difference to the last step's values makes 64-bit totals of them and tells how many distinct
// experts the step used. The cost is one pass over layers * experts words per step.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TELEMETRY_EXPERTCOUNTERS_H
#define SLUICE_RUNTIME_TELEMETRY_EXPERTCOUNTERS_H

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

/// Not thread-safe.
class ExpertCounters {
public:
  /// For a table of `size` counters (MoE layers * experts) that starts at zero.
  explicit ExpertCounters(size_t size = 0) : seen(size), sums(size) {}

  /// Takes the counters after a step; returns the number of those that moved. Allocates nothing.
  uint64_t update(std::span<const uint32_t> counters) {
    uint64_t moved = 0;
    for (size_t i = 0; i < seen.size(); ++i) {
      uint32_t step = counters[i] - seen[i]; // modulo 2^32, so a wrap is no loss
      seen[i] = counters[i];
      sums[i] += step;
      moved += step != 0;
    }
    return moved;
  }

  /// Tokens routed to each expert so far.
  const std::vector<uint64_t> &totals() const { return sums; }

private:
  std::vector<uint32_t> seen;
  std::vector<uint64_t> sums;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_TELEMETRY_EXPERTCOUNTERS_H
