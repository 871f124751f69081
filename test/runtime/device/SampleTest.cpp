//===- SampleTest.cpp - From logits to a token ------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

#include "runtime/device/host/SampleRandom.h"

#include <limits>
#include <map>
#include <numeric>
#include <set>

namespace sluice::host::test {
namespace {

abi::StepDims dimsOf(int64_t rows) {
  abi::StepDims dims;
  dims.logitRows = rows;
  dims.tokens = dims.seqs = dims.pagesPerSeq = dims.pageSize = dims.numPages = 1;
  return dims;
}

// The known answers of the Random123 distribution (kat_vectors, philox4x32-10).
TEST(Sample, PhiloxKnownAnswers) {
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Sample, GreedyTakesTheFirstOfEquals) {
  abi::SampleParams p;
  p.vocab = 1003;
  Launch launch(p, dimsOf(4));
  launch.header().numLogitRows = 4;
  Random random(1);
  fillNormal(random, launch.arg("logits"), 4 * p.vocab);
  const float inf = std::numeric_limits<float>::infinity();
  launch.arg("logits")[700] = launch.arg("logits")[333] = launch.arg("logits")[1002] = 50;
  launch.arg("logits")[p.vocab + 1002] = 60;
  for (int64_t i = 0; i < p.vocab; ++i) {
    launch.arg("logits")[2 * p.vocab + i] = i == 5 ? -inf : std::nanf("");
    launch.arg("logits")[3 * p.vocab + i] = std::nanf("");
  }
  for (int i = 0; i < 4; ++i)
    launch.arg<abi::SamplingRow>("sampling")[i] = abi::SamplingRow();
  runEverywhere(launch, {"sampled_ids"}, [&] {
    const auto *ids = launch.arg<int32_t>("sampled_ids");
    EXPECT_EQ(ids[0], 333);
    EXPECT_EQ(ids[1], 1002);
    EXPECT_EQ(ids[2], 5);
    EXPECT_EQ(ids[3], 0);
  });
}

/// The probabilities after truncation, computed by sorting; `slack` receives how far the nearest
/// partial sum is from topP.
std::vector<double> naiveDistribution(const float *logits, int64_t vocab,
                                      const abi::SamplingRow &row, double &slack) {
  std::vector<int32_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (row.topK > 0 && row.topK < vocab)
    order.resize(size_t(row.topK));
  std::vector<double> weights;
  for (int32_t id : order)
    weights.push_back(std::exp((double(logits[id]) - logits[order[0]]) / row.temperature));
  double mass = std::accumulate(weights.begin(), weights.end(), 0.0), sum = 0;
  size_t kept = 0;
  slack = 1;
  do {
    sum += weights[kept++] / mass;
    slack = std::min(slack, std::fabs(sum - row.topP));
  } while (kept < order.size() && sum < row.topP);
  std::vector<double> out(static_cast<size_t>(vocab), 0.0);
  for (size_t i = 0; i < kept; ++i)
    out[size_t(order[i])] = weights[i] / mass / sum;
  return out;
}

// Every draw must fall where the distribution function, walked by id, passes the row's number.
TEST(Sample, FollowsTheDistribution) {
  Random random(2);
  for (int64_t vocab : {1, 7, 300, 5000})
    for (float temperature : {0.3f, 1.0f, 5.0f})
      for (int32_t topK : {0, 1, 5, 1000})
        for (float topP : {1.0f, 0.9f, 0.5f, 0.0f}) {
          abi::SampleParams p;
          p.vocab = vocab;
          constexpr int64_t rows = 6;
          Launch launch(p, dimsOf(rows));
          launch.header().numLogitRows = rows;
          fillNormal(random, launch.arg("logits"), rows * vocab, 2);
          if (vocab > 5) // ties across the truncation
            for (int64_t row = 0; row < rows; ++row)
              for (int64_t i = 0; i < vocab; i += 2)
                launch.arg("logits")[row * vocab + i] =
                    std::round(launch.arg("logits")[row * vocab + i]);
          for (int64_t i = 0; i < rows; ++i) {
            abi::SamplingRow row;
            row.temperature = temperature, row.topK = topK, row.topP = topP;
            row.seed = random(), row.counter = random();
            launch.arg<abi::SamplingRow>("sampling")[i] = row;
          }
          runEverywhere(launch, {"sampled_ids"}, [&] {
            for (int64_t i = 0; i < rows; ++i) {
              const auto &row = launch.arg<abi::SamplingRow>("sampling")[i];
              double slack;
              auto expected =
                  naiveDistribution(launch.arg("logits") + i * vocab, vocab, row, slack);
              const int32_t id = launch.arg<int32_t>("sampled_ids")[i];
              ASSERT_GE(id, 0);
              ASSERT_LT(id, vocab);
              if (slack < 1e-5)
                continue; // rounding decides whether one more token is kept
              EXPECT_GT(expected[size_t(id)], 0);
              const double u = uniformOf(row.seed, row.counter);
              double below = std::accumulate(expected.begin(), expected.begin() + id, 0.0);
              EXPECT_LE(below, u + 1e-5);
              EXPECT_GE(below + expected[size_t(id)], u - 1e-5);
            }
          });
        }
}

// Counters in sequence must give the probabilities, not just the support.
TEST(Sample, Frequencies) {
  abi::SampleParams p;
  p.vocab = 4;
  constexpr int64_t rows = 20000;
  Launch launch(p, dimsOf(rows));
  launch.header().numLogitRows = rows;
  const double probabilities[] = {0.1, 0.2, 0.3, 0.4};
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t id = 0; id < 4; ++id)
      launch.arg("logits")[i * 4 + id] = float(std::log(probabilities[id]));
    abi::SamplingRow row;
    row.temperature = 1, row.seed = 7, row.counter = uint64_t(i);
    launch.arg<abi::SamplingRow>("sampling")[i] = row;
  }
  launch.run(2);
  std::map<int32_t, int64_t> counts;
  for (int64_t i = 0; i < rows; ++i)
    ++counts[launch.arg<int32_t>("sampled_ids")[i]];
  for (int32_t id = 0; id < 4; ++id) {
    // Four standard deviations of a binomial.
    const double sigma = std::sqrt(rows * probabilities[id] * (1 - probabilities[id]));
    EXPECT_NEAR(double(counts[id]), rows * probabilities[id], 4 * sigma);
  }
}

// Broken logits must still give a token of the vocabulary.
TEST(Sample, SurvivesNanAndInfinity) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  abi::SampleParams p;
  p.vocab = 40;
  Launch launch(p, dimsOf(12));
  launch.header().numLogitRows = 12;
  for (int64_t i = 0; i < 12; ++i) {
    for (int64_t id = 0; id < 40; ++id) {
      const float values[] = {nan, -inf, inf, id % 3 ? nan : 1.0f};
      launch.arg("logits")[i * 40 + id] = values[i % 4];
    }
    abi::SamplingRow row;
    row.temperature = i % 2 ? 1.0f : 1e-30f;
    row.topK = i < 8 ? 7 : 0, row.topP = i < 4 ? 1.0f : 0.5f;
    launch.arg<abi::SamplingRow>("sampling")[i] = row;
  }
  runEverywhere(launch, {"sampled_ids"}, [&] {
    for (int64_t i = 0; i < 12; ++i) {
      const int32_t id = launch.arg<int32_t>("sampled_ids")[i];
      EXPECT_GE(id, 0);
      EXPECT_LT(id, 40);
      if (i % 4 == 3) {
        EXPECT_EQ(id % 3, 0) << "a NaN was chosen";
      }
    }
  });
}

} // namespace
} // namespace sluice::host::test
