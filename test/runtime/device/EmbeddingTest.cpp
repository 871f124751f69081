//===- EmbeddingTest.cpp - Row lookups --------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

namespace sluice::host::test {
namespace {

abi::StepDims dimsOf(int64_t tokens) {
  abi::StepDims dims;
  dims.tokens = tokens, dims.logitRows = tokens;
  dims.seqs = dims.pagesPerSeq = dims.pageSize = dims.numPages = 1;
  return dims;
}

TEST(Embedding, EveryFormat) {
  Random random(1);
  for (const char *format : {"f32", "bf16", "f16"})
    for (int64_t hidden : {1, 5, 64, 301, 3000}) {
      SCOPED_TRACE(format + std::string(" ") + std::to_string(hidden));
      abi::EmbeddingParams p;
      p.vocab = 50, p.hidden = hidden, p.format = format, p.multiplier = 12.5;
      const int64_t rows = uniformInt(random, 1, 40);
      Launch launch(p, dimsOf(rows));
      launch.header().numTokens = int32_t(rows);
      for (int64_t i = 0; i < p.vocab * hidden; ++i)
        writeElement(format, launch.arg<void>("table"), i,
                     std::normal_distribution<float>()(random));
      for (int64_t i = 0; i < rows; ++i)
        launch.arg<int32_t>("token_ids")[i] = int32_t(uniformInt(random, 0, p.vocab - 1));
      runEverywhere(launch, {"out"}, [&] {
        for (int64_t i = 0; i < rows * hidden; ++i) {
          int64_t id = launch.arg<int32_t>("token_ids")[i / hidden];
          float value = readElement(format, launch.arg<void>("table"), id * hidden + i % hidden);
          ASSERT_EQ(launch.arg("out")[i], value * 12.5f);
        }
      });
    }
}

// Every binary16 number must widen to the value that Float16.h defines, on every instruction set.
TEST(Embedding, WidensEveryHalf) {
  for (const char *format : {"bf16", "f16"}) {
    abi::EmbeddingParams p;
    p.vocab = 256, p.hidden = 256, p.format = format;
    Launch launch(p, dimsOf(256));
    launch.header().numTokens = 256;
    for (int32_t i = 0; i < 65536; ++i)
      launch.arg<uint16_t>("table")[i] = uint16_t(i);
    for (int32_t i = 0; i < 256; ++i)
      launch.arg<int32_t>("token_ids")[i] = i;
    runEverywhere(launch, {"out"}, [&] {
      for (int64_t i = 0; i < 65536; ++i) {
        float expected = readElement(format, launch.arg<void>("table"), i);
        if (std::isnan(expected))
          ASSERT_TRUE(std::isnan(launch.arg("out")[i])) << i;
        else
          ASSERT_EQ(launch.arg("out")[i], expected) << i;
      }
    });
  }
}

TEST(Embedding, TablesAreNotQuantised) {
  abi::EmbeddingParams p;
  p.vocab = 16, p.hidden = 16, p.format = "i8:channel";
  auto kernel = createHostKernel(p, dimsOf(4));
  EXPECT_EQ(kernel.status().code(), StatusCode::kUnsupported);
}

TEST(Embedding, GatherRows) {
  Random random(2);
  for (int64_t width : {1, 33, 2000}) {
    abi::GatherRowsParams p;
    p.width = width;
    Launch launch(p, dimsOf(20));
    launch.header().numTokens = 20;
    launch.header().numLogitRows = 11;
    fillNormal(random, launch.arg("x"), 20 * width);
    for (int64_t i = 0; i < 11; ++i)
      launch.arg<int32_t>("logit_rows")[i] = int32_t(uniformInt(random, 0, 19));
    runEverywhere(launch, {"out"}, [&] {
      for (int64_t i = 0; i < 11 * width; ++i)
        ASSERT_EQ(
            launch.arg("out")[i],
            launch.arg("x")[launch.arg<int32_t>("logit_rows")[i / width] * width + i % width]);
      EXPECT_TRUE(std::isnan(launch.arg("out")[11 * width]));
    });
  }
}

} // namespace
} // namespace sluice::host::test
