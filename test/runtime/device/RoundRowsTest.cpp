//===- RoundRowsTest.cpp - Rounded activations against a table --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The reference finds the nearest E4M3 number by trying all of them.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/NarrowFloat.h"
#include "test/runtime/device/KernelHarness.h"

#include <algorithm>
#include <cmath>

namespace sluice::host::test {
namespace {

/// The E4M3 number nearest to `x`, of two equally near ones that with the even code.
float nearest(float x) {
  int best = 0;
  for (int code = 0; code < 127; ++code) {
    double distance = std::fabs(f8E4M3ToF32(uint8_t(code)) - std::fabs(double(x)));
    double least = std::fabs(f8E4M3ToF32(uint8_t(best)) - std::fabs(double(x)));
    if (distance < least || (distance == least && code % 2 == 0))
      best = code;
  }
  return std::copysign(f8E4M3ToF32(uint8_t(best)), x);
}

void check(int64_t width, int64_t rows, abi::RowSet rowSet, float spread) {
  Random random{uint32_t(width)};
  const Batch batch{std::vector<Batch::Sequence>(size_t(rows))};
  Launch launch(abi::RoundRowsParams{width, "f8e4m3:group128", rowSet}, batch.dims(8));
  launch.header().numTokens = int32_t(rows);
  launch.header().numLogitRows = int32_t(rows);
  fillNormal(random, launch.arg("x"), rows * width);
  float *x = launch.arg("x");
  for (int64_t i = 0; i < rows * width; ++i)
    x[i] *= std::pow(spread, float(i % 23) - 11); // subnormal codes too
  std::fill_n(x, std::min<int64_t>(width, 128), 0.0f);
  std::vector<double> expected;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t begin = 0; begin < width; begin += 128) {
      const float *group = x + row * width + begin;
      const int64_t count = std::min<int64_t>(128, width - begin);
      float largest = 0;
      for (int64_t i = 0; i < count; ++i)
        largest = std::max(largest, std::fabs(group[i]));
      const float scale = largest > 0 ? largest / 448 : 1;
      for (int64_t i = 0; i < count; ++i)
        expected.push_back(nearest(group[i] / scale) * scale);
    }
  runEverywhere(launch, {"out"}, [&] {
    for (int64_t i = 0; i < rows * width; ++i)
      ASSERT_EQ(launch.arg("out")[i], float(expected[size_t(i)])) << "number " << i;
  });
}

TEST(RoundRows, Shapes) {
  check(256, 5, abi::RowSet::kTokens, 1);
  check(128, 33, abi::RowSet::kTokens, 1.9f);
  check(200, 4, abi::RowSet::kLogitRows, 1.5f); // the last group is shorter
  check(7, 3, abi::RowSet::kTokens, 1);
}

} // namespace
} // namespace sluice::host::test
