//===- TelemetryTest.cpp - Histograms and counters --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "sluice/telemetry.h"
#include "runtime/telemetry/ExpertCounters.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace sluice {
namespace {

TEST(LatencyHistogram, QuantilesAreWithinTheirBucket) {
  LatencyHistogram histogram;
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) {
    double seconds = 1e-7 * std::exp(double((i * 7919) % 20000) / 1200); // 100 ns to 1.7 s
    values.push_back(seconds);
    histogram.record(seconds);
  }
  std::sort(values.begin(), values.end());
  for (double q : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    double exact = values[size_t(std::ceil(q * double(values.size()))) - 1];
    EXPECT_NEAR(histogram.quantile(q) / exact, 1, 0.0165) << q;
  }
  EXPECT_NEAR(histogram.quantile(0), histogram.min(), histogram.min() * 0.0165);
  EXPECT_NEAR(histogram.quantile(1), histogram.max(), histogram.max() * 0.0165);
  EXPECT_EQ(histogram.count(), 20000u);
  EXPECT_DOUBLE_EQ(histogram.max(), values.back());
  EXPECT_DOUBLE_EQ(histogram.min(), values.front());
}

TEST(LatencyHistogram, SmallAndExtremeValues) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.p50(), 0);
  EXPECT_EQ(histogram.mean(), 0);
  for (int ns = 1; ns <= 63; ++ns) {
    LatencyHistogram one;
    one.record(ns * 1e-9);
    EXPECT_NEAR(one.p50(), ns * 1e-9, 1e-15) << "small counts are exact";
  }
  for (double odd : {-1.0, 0.0, std::nan(""), 1e30, std::numeric_limits<double>::infinity()})
    histogram.record(odd);
  EXPECT_EQ(histogram.count(), 5u);
  EXPECT_EQ(histogram.min(), 0);
  EXPECT_NEAR(histogram.max(), 17592, 1); // 2^44 ns
}

TEST(LatencyHistogram, MergeEqualsRecordingAll) {
  LatencyHistogram a, b, all;
  for (int i = 1; i < 100; ++i) {
    (i % 3 ? a : b).record(i * 1e-4);
    all.record(i * 1e-4);
  }
  a.merge(b);
  a.merge(LatencyHistogram());
  EXPECT_EQ(a.count(), all.count());
  EXPECT_EQ(a.p90(), all.p90());
  EXPECT_EQ(a.min(), all.min());
  EXPECT_EQ(a.max(), all.max());
  EXPECT_NEAR(a.mean(), all.mean(), 1e-12);
}

TEST(ExpertCounters, SurvivesTheWrapOfItsCounters) {
  ExpertCounters counters(3);
  std::vector<uint32_t> table = {5, 0, UINT32_MAX};
  EXPECT_EQ(counters.update(table), 2u);
  table = {5, 0, 3}; // wrapped: 4 more
  EXPECT_EQ(counters.update(table), 1u);
  EXPECT_EQ(counters.totals(), (std::vector<uint64_t>{5, 0, uint64_t(UINT32_MAX) + 4}));
}

} // namespace
} // namespace sluice
