//===- NormTest.cpp - Row-wise kernels against naive references -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

namespace sluice::host::test {
namespace {

/// The norm of x[0, n) in double, appended to `out`.
void naiveNorm(abi::NormKind kind, const std::vector<double> &x, double eps, const float *weight,
               const float *bias, std::vector<double> &out) {
  double mean = 0, square = 0, n = double(x.size());
  for (double v : x)
    mean += v / n;
  if (kind != abi::NormKind::kLayer)
    mean = 0;
  for (double v : x)
    square += (v - mean) * (v - mean) / n;
  for (size_t i = 0; i < x.size(); ++i) {
    double v = (x[i] - mean) / std::sqrt(square + eps);
    if (kind != abi::NormKind::kL2)
      v *= weight[i];
    out.push_back(bias ? v + bias[i] : v);
  }
}

abi::StepDims dimsOf(int64_t tokens) {
  abi::StepDims dims;
  dims.tokens = tokens + 2, dims.logitRows = tokens + 1;
  dims.seqs = dims.pagesPerSeq = dims.pageSize = dims.numPages = 1;
  return dims;
}

TEST(Norm, AllKinds) {
  Random random(1);
  for (abi::NormKind kind : {abi::NormKind::kRms, abi::NormKind::kLayer, abi::NormKind::kL2})
    for (abi::RowSet set : {abi::RowSet::kTokens, abi::RowSet::kLogitRows})
      for (auto shape : std::vector<std::pair<int64_t, int64_t>>{
               {1, 1}, {7, 1}, {64, 1}, {1000, 1}, {96, 4}, {35, 7}, {4096, 1}})
        for (bool bias : {false, true}) {
          if (bias && kind == abi::NormKind::kL2)
            continue;
          const int64_t width = shape.first, groups = shape.second;
          abi::NormParams p;
          p.kind = kind, p.rows = set, p.width = width, p.groups = groups, p.bias = bias;
          const int64_t rows = uniformInt(random, 1, 9), group = width / groups;
          Launch launch(p, dimsOf(rows));
          launch.header().numTokens = set == abi::RowSet::kTokens ? int32_t(rows) : 0;
          launch.header().numLogitRows = set == abi::RowSet::kLogitRows ? int32_t(rows) : 0;
          fillNormal(random, launch.arg("x"), rows * width, 3);
          for (int64_t i = 0; i < rows * width; ++i)
            launch.arg("x")[i] += 5; // a mean far from zero
          if (kind != abi::NormKind::kL2)
            fillNormal(random, launch.arg("weight"), group);
          if (bias)
            fillNormal(random, launch.arg("bias"), group);
          std::vector<double> expected;
          for (int64_t at = 0; at < rows * width; at += group)
            naiveNorm(kind, {launch.arg("x") + at, launch.arg("x") + at + group}, p.eps,
                      launch.arg("weight"), bias ? launch.arg("bias") : nullptr, expected);
          runEverywhere(launch, {"out"}, [&] {
            EXPECT_LT(relativeError(launch.arg("out"), expected), 3e-6)
                << "width " << width << " groups " << groups;
            // Rows past the step's are nobody's business.
            EXPECT_TRUE(std::isnan(launch.arg("out")[rows * width]));
          });
        }
}

TEST(Norm, ResidualNorm) {
  Random random(2);
  for (abi::NormKind kind : {abi::NormKind::kRms, abi::NormKind::kLayer})
    for (int64_t width : {3, 64, 515}) {
      abi::ResidualNormParams p;
      p.kind = kind, p.width = width, p.multiplier = 0.22, p.bias = kind == abi::NormKind::kLayer;
      const int64_t rows = uniformInt(random, 1, 200);
      Launch launch(p, dimsOf(rows));
      launch.header().numTokens = int32_t(rows);
      fillNormal(random, launch.arg("residual"), rows * width);
      fillNormal(random, launch.arg("delta"), rows * width);
      fillNormal(random, launch.arg("weight"), width);
      if (p.bias)
        fillNormal(random, launch.arg("bias"), width);
      std::vector<double> sums, expected;
      for (int64_t row = 0; row < rows; ++row) {
        std::vector<double> sum;
        for (int64_t i = row * width; i < (row + 1) * width; ++i)
          sum.push_back(launch.arg("residual")[i] + 0.22 * launch.arg("delta")[i]);
        naiveNorm(kind, sum, p.eps, launch.arg("weight"), p.bias ? launch.arg("bias") : nullptr,
                  expected);
        sums.insert(sums.end(), sum.begin(), sum.end());
      }
      runEverywhere(launch, {"out", "residual_out"}, [&] {
        EXPECT_LT(relativeError(launch.arg("residual_out"), sums), 1e-6);
        EXPECT_LT(relativeError(launch.arg("out"), expected), 3e-6);
      });
    }
}

// The plan lets the sum replace the residual.
TEST(Norm, ResidualNormInPlace) {
  abi::ResidualNormParams p;
  p.width = 40;
  abi::StepDims dims = dimsOf(3);
  Random random(3);
  Launch launch(p, dims);
  launch.header().numTokens = 3;
  fillNormal(random, launch.arg("residual"), 120);
  fillNormal(random, launch.arg("delta"), 120);
  fillNormal(random, launch.arg("weight"), 40);
  launch.run(1);
  auto kernel = createHostKernel(p, dims);
  ASSERT_TRUE(kernel.isOk());
  alignas(64) float out[200];
  std::vector<float> residual(launch.arg("residual"), launch.arg("residual") + 120);
  void *args[] = {&launch.header(),
                  residual.data(),
                  launch.arg("delta"),
                  launch.arg("weight"),
                  nullptr,
                  residual.data(),
                  out};
  ThreadPool pool(1);
  (*kernel)->run(args, pool);
  EXPECT_EQ(0, std::memcmp(residual.data(), launch.arg("residual_out"), 120 * sizeof(float)));
  EXPECT_EQ(0, std::memcmp(out, launch.arg("out"), 120 * sizeof(float)));
}

TEST(Norm, Residual) {
  Random random(4);
  for (int64_t width : {1, 13, 700}) {
    abi::ResidualParams p;
    p.width = width, p.multiplier = -1.5;
    const int64_t rows = uniformInt(random, 1, 90);
    Launch launch(p, dimsOf(rows));
    launch.header().numTokens = int32_t(rows);
    fillNormal(random, launch.arg("a"), rows * width);
    fillNormal(random, launch.arg("b"), rows * width);
    std::vector<double> expected;
    for (int64_t i = 0; i < rows * width; ++i)
      expected.push_back(launch.arg("a")[i] - 1.5 * launch.arg("b")[i]);
    runEverywhere(launch, {"out"},
                  [&] { EXPECT_LT(relativeError(launch.arg("out"), expected), 1e-6); });
  }
}

} // namespace
} // namespace sluice::host::test
