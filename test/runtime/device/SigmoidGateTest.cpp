//===- SigmoidGateTest.cpp - Gates and temperatures against references ------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

namespace sluice::host::test {
namespace {

void checkGate(int64_t width, int64_t k, int64_t tokens, float sigma, uint32_t seed) {
  Random random(seed);
  const Batch batch{{{0, tokens}}};
  Launch launch(abi::SigmoidGateParams{width, k}, batch.dims(8));
  launch.header().numTokens = int32_t(tokens);
  fillNormal(random, launch.arg("y"), tokens * width);
  fillNormal(random, launch.arg("x"), tokens * k, sigma);
  fillNormal(random, launch.arg("weight"), k);
  std::vector<double> expected;
  for (int64_t token = 0; token < tokens; ++token) {
    double logit = 0;
    for (int64_t i = 0; i < k; ++i)
      logit += double(launch.arg("x")[token * k + i]) * launch.arg("weight")[i];
    for (int64_t i = 0; i < width; ++i)
      expected.push_back(launch.arg("y")[token * width + i] / (1 + std::exp(-logit)));
  }
  runEverywhere(launch, {"out"}, [&] {
    // The error of a logit in the hundreds is that of its terms.
    EXPECT_LT(relativeError(launch.arg("out"), expected), 5e-6 * std::max(1.0f, sigma));
  });
}

TEST(SigmoidGate, Shapes) {
  checkGate(64, 64, 5, 0.1f, 1);
  checkGate(37, 129, 3, 0.1f, 2);
  checkGate(1, 1, 1, 1, 3);
  checkGate(2048, 2048, 33, 0.05f, 4);
}

// Logits beyond what exp() can hold in float32, of both signs.
TEST(SigmoidGate, Saturates) { checkGate(16, 64, 40, 100, 5); }

TEST(Temperature, GrowsWithThePosition) {
  for (int64_t offset : {0, 1}) {
    Random random(6);
    const Batch batch{{{0, 5}, {6, 3}, {70, 1}, {100000, 1}}};
    abi::StepDims dims = batch.dims(8);
    Launch launch(abi::TemperatureParams{37, 0.1, 4, offset}, dims);
    launch.header().numTokens = int32_t(batch.tokens());
    fillNormal(random, launch.arg("x"), batch.tokens() * 37);
    std::vector<double> expected;
    int64_t token = 0;
    for (const Batch::Sequence &sequence : batch.sequences)
      for (int64_t i = 0; i < sequence.fresh; ++i, ++token) {
        const int64_t position = sequence.cached + i;
        launch.arg<int32_t>("positions")[token] = int32_t(position);
        for (int64_t column = 0; column < 37; ++column)
          expected.push_back(launch.arg("x")[token * 37 + column] *
                             (1 + 0.1 * std::log(double(1 + (position + offset) / 4))));
      }
    runEverywhere(launch, {"out"},
                  [&] { EXPECT_LT(relativeError(launch.arg("out"), expected), 1e-6); });
  }
}

} // namespace
} // namespace sluice::host::test
