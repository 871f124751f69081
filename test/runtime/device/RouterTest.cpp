//===- RouterTest.cpp - Routing rules and the expert-major order ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The reference follows the models' code on the logits that the kernel's arithmetic gives (so that
// a choice between nearly equal experts is not a matter of rounding), in double, by sorting.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

#include "runtime/device/host/Router.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>

namespace sluice::host::test {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

double scoreOf(abi::ScoreFunction score, double x) {
  return score == abi::ScoreFunction::kSigmoid ? 1 / (1 + std::exp(-x))
                                               : std::sqrt(std::log1p(std::exp(x)));
}

std::vector<double> scoresOf(abi::ScoreFunction score, std::vector<double> x) {
  if (score != abi::ScoreFunction::kSoftmax) {
    for (double &v : x)
      v = scoreOf(score, v);
    return x;
  }
  double sum = 0, greatest = *std::max_element(x.begin(), x.end());
  for (double &v : x)
    sum += v = std::exp(v - greatest);
  for (double &v : x)
    v /= sum;
  return x;
}

/// Expert ids by descending value, lower ids first among equals.
std::vector<int> ranked(const std::vector<double> &values) {
  std::vector<int> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int a, int b) { return values[size_t(a)] > values[size_t(b)]; });
  return ids;
}

struct Choice {
  std::vector<int> ids;
  std::vector<double> weights;
};

/// modeling_phimoe.py, sparsemixer(), at inference.
Choice naiveSparseMixer(const abi::RouterParams &p, std::vector<double> scores) {
  Choice out;
  std::vector<double> masked = scores;
  for (int round = 0; round < 2; ++round) {
    int best = ranked(masked)[0];
    double greatest = masked[size_t(best)];
    std::vector<double> gates = masked;
    for (size_t e = 0; e < scores.size(); ++e)
      if ((greatest - scores[e]) / std::max(std::fabs(scores[e]), greatest) > 2 * p.jitter)
        gates[e] = -kInf;
    out.ids.push_back(best);
    out.weights.push_back(scoresOf(abi::ScoreFunction::kSoftmax, gates)[size_t(best)]);
    masked[size_t(best)] = -kInf;
  }
  return out;
}

Choice naiveChoice(const abi::RouterParams &p, const std::vector<double> &logits,
                   const float *correction) {
  if (p.sparseMixer)
    return naiveSparseMixer(p, logits);
  std::vector<double> values = p.scoreFirst ? scoresOf(p.score, logits) : logits, choice = values;
  for (size_t e = 0; correction && e < choice.size(); ++e)
    choice[e] += correction[e];
  if (p.groups > 1) {
    std::vector<double> groupScores;
    const int64_t size = p.experts / p.groups;
    for (int64_t g = 0; g < p.groups; ++g) {
      std::vector<double> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      groupScores.push_back(members[0] +
                            (p.groupScore == abi::GroupScore::kTop2Sum ? members[1] : 0.0));
    }
    std::vector<int> order = ranked(groupScores);
    for (size_t i = size_t(p.topkGroup); i < order.size(); ++i)
      std::fill_n(choice.begin() + order[i] * size, size, -kInf);
  }
  Choice out;
  std::vector<int> order = ranked(choice);
  out.ids.assign(order.begin(), order.begin() + p.topK);
  for (int id : out.ids)
    out.weights.push_back(values[size_t(id)]);
  if (!p.scoreFirst)
    out.weights = scoresOf(p.score, out.weights);
  double sum = std::accumulate(out.weights.begin(), out.weights.end(), 0.0);
  for (double &w : out.weights)
    w = (p.renormalize ? w / (sum + p.epsilon) : w) * p.scale;
  return out;
}

void checkRouter(const abi::RouterParams &p, int64_t rows, uint32_t seed) {
  Random random(seed);
  abi::StepDims dims;
  dims.tokens = rows + 2;
  dims.seqs = dims.logitRows = dims.pagesPerSeq = dims.pageSize = dims.numPages = 1;
  Launch launch(p, dims);
  launch.header().numTokens = int32_t(rows);
  fillNormal(random, launch.arg("x"), rows * p.hidden);
  std::vector<float> weight(size_t(p.experts * p.hidden));
  fillNormal(random, weight.data(), int64_t(weight.size()), 2 / std::sqrt(float(p.hidden)));
  launch.pack("weight", p.format, p.experts, p.hidden, weight);
  for (const char *name : {"bias", "correction"})
    fillNormal(random, launch.arg(name), launch.bytes(name) / 4, 0.3f);
  for (int64_t e = 0; e < p.experts; ++e)
    launch.arg<uint32_t>("counts")[e] = uint32_t(1000 + e);

  runEverywhere(launch, {"ids", "weights", "offsets", "order", "inverse", "counts"}, [&] {
    std::vector<std::vector<int>> pairsOf(size_t(p.experts));
    const auto *ids = launch.arg<int32_t>("ids");
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<double> logits;
      for (int64_t e = 0; e < p.experts; ++e) {
        double dot = p.bias ? launch.arg("bias")[e] : 0;
        for (int64_t i = 0; i < p.hidden; ++i)
          dot += double(launch.arg("x")[row * p.hidden + i]) * weight[size_t(e * p.hidden + i)];
        logits.push_back(dot);
      }
      Choice expected = naiveChoice(p, logits, p.correction ? launch.arg("correction") : nullptr);
      for (int64_t i = 0; i < p.topK; ++i) {
        ASSERT_EQ(ids[row * p.topK + i], expected.ids[size_t(i)]) << "row " << row;
        ASSERT_NEAR(launch.arg("weights")[row * p.topK + i], expected.weights[size_t(i)],
                    2e-6 * p.scale + 2e-6 * std::fabs(expected.weights[size_t(i)]));
        pairsOf[size_t(expected.ids[size_t(i)])].push_back(int(row * p.topK + i));
      }
    }
    int32_t at = 0;
    for (int64_t e = 0; e < p.experts; ++e) {
      ASSERT_EQ(launch.arg<int32_t>("offsets")[e], at);
      ASSERT_EQ(launch.arg<uint32_t>("counts")[e], 1000 + e + pairsOf[size_t(e)].size());
      for (int pair : pairsOf[size_t(e)]) {
        ASSERT_EQ(launch.arg<int32_t>("order")[at], pair);
        ASSERT_EQ(launch.arg<int32_t>("inverse")[pair], at++);
      }
    }
    ASSERT_EQ(launch.arg<int32_t>("offsets")[p.experts], at);
  });
}

abi::RouterParams rule(int64_t experts, int64_t topK) {
  abi::RouterParams p;
  p.hidden = 48, p.experts = experts, p.topK = topK, p.format = "f32";
  return p;
}

TEST(Router, Mixtral) {
  checkRouter(rule(8, 2), 1, 1);
  checkRouter(rule(8, 2), 150, 2);
  abi::RouterParams p = rule(5, 1);
  p.hidden = 7, p.format = "bf16";
  checkRouter(p, 20, 3);
  p.format = "f16", p.topK = 5;
  checkRouter(p, 20, 4);
  for (const char *format : {"f8e4m3:channel", "i8:group8", "i4:group32", "mxfp4", "nvfp4"}) {
    p = rule(30, 4);
    p.format = format;
    checkRouter(p, 20, 5);
  }
}

TEST(Router, WithoutRenormalisation) {
  abi::RouterParams p = rule(60, 4);
  p.renormalize = false;
  checkRouter(p, 30, 10);
}

// gpt-oss and Granite: top-k of the logits, then a softmax over the chosen.
TEST(Router, ScoresOfTheChosen) {
  abi::RouterParams p = rule(32, 4);
  p.scoreFirst = false, p.renormalize = false, p.bias = true;
  checkRouter(p, 40, 20);
  // Llama 4: sigmoid of the best logit.
  p = rule(16, 1);
  p.scoreFirst = false, p.renormalize = false, p.score = abi::ScoreFunction::kSigmoid;
  checkRouter(p, 40, 21);
}

TEST(Router, GroupsByMaximum) {
  abi::RouterParams p = rule(64, 6);
  p.groups = 8, p.topkGroup = 3, p.groupScore = abi::GroupScore::kMax;
  p.renormalize = false, p.scale = 16;
  checkRouter(p, 40, 30);
}

TEST(Router, DeepSeekV3) {
  abi::RouterParams p = rule(64, 8);
  p.score = abi::ScoreFunction::kSigmoid, p.correction = true;
  p.groups = 8, p.topkGroup = 4, p.groupScore = abi::GroupScore::kTop2Sum;
  p.epsilon = 1e-20, p.scale = 2.5;
  checkRouter(p, 40, 40);
  p.groups = 1, p.topkGroup = 1;
  checkRouter(p, 40, 41);
  p.score = abi::ScoreFunction::kSqrtSoftplus;
  checkRouter(p, 40, 42);
}

TEST(Router, SparseMixer) {
  abi::RouterParams p = rule(16, 2);
  for (double jitter : {0.01, 0.3, 0.0}) {
    p.sparseMixer = true, p.jitter = jitter;
    checkRouter(p, 60, 50);
  }
}

TEST(Router, RandomRules) {
  Random random(60);
  for (uint32_t i = 0; i < 40; ++i) {
    abi::RouterParams p;
    p.groups = uniformInt(random, 1, 4);
    p.experts = p.groups * uniformInt(random, 2, 9);
    p.topkGroup = uniformInt(random, 1, p.groups);
    p.groupScore = i % 2 ? abi::GroupScore::kMax : abi::GroupScore::kTop2Sum;
    p.topK = uniformInt(random, 1, p.experts / p.groups * p.topkGroup);
    p.hidden = uniformInt(random, 1, 40), p.format = "f32";
    p.score = abi::ScoreFunction(uniformInt(random, 0, 2));
    p.scoreFirst = uniformInt(random, 0, 1), p.renormalize = uniformInt(random, 0, 1);
    p.bias = uniformInt(random, 0, 1), p.correction = uniformInt(random, 0, 1);
    checkRouter(p, uniformInt(random, 1, 12), 61 + i);
  }
}

TEST(Router, LowerExpertWinsTies) {
  abi::RouterParams p = rule(6, 3);
  float logits[6] = {1, 2, 2, 1, 2, 2}, scores[6], weights[3];
  int32_t ids[3];
  chooseExperts(p, chooseScoreRow(), logits, scores, nullptr, ids, weights);
  EXPECT_EQ(ids[0], 1);
  EXPECT_EQ(ids[1], 2);
  EXPECT_EQ(ids[2], 4);
  EXPECT_FLOAT_EQ(weights[0] + weights[1] + weights[2], 1);
}

// A broken model must not make the sort write out of bounds.
TEST(Router, SurvivesNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (bool sparse : {false, true}) {
    abi::RouterParams p = rule(4, 2);
    p.sparseMixer = sparse, p.jitter = 0.01;
    for (bool all : {false, true}) {
      float logits[4] = {nan, all ? nan : 1.0f, nan, nan}, scores[4], weights[2];
      int32_t ids[2] = {-1, -1};
      p.scoreFirst = false;
      chooseExperts(p, chooseScoreRow(), logits, scores, nullptr, ids, weights);
      EXPECT_EQ(ids[0], all ? 0 : 1);
      EXPECT_EQ(ids[1], all ? 1 : 0);
    }
  }
}

// Groups agree on who serves a pair, and each orders its own by slot, stably.
TEST(AssignSlots, GroupsShareThePairs) {
  constexpr int64_t kExperts = 6, kTopK = 3, kTokens = 29;
  const std::vector<std::vector<int32_t>> groups = {{0, 1, 2}, {3, 2, 4}, {5, 0}};
  for (bool decode : {false, true}) {
    Random random(decode ? 7 : 8);
    std::vector<int32_t> ids;
    for (int64_t token = 0; token < kTokens; ++token) {
      std::vector<int32_t> experts(kExperts);
      std::iota(experts.begin(), experts.end(), 0);
      std::shuffle(experts.begin(), experts.end(), random);
      ids.insert(ids.end(), experts.begin(), experts.begin() + kTopK);
    }
    std::vector<int> servedBy(ids.size(), -1);
    std::map<int32_t, std::set<int>> groupsOfExpert;
    for (int group = 0; group < 3; ++group) {
      abi::StepDims dims;
      dims.tokens = kTokens + 3;
      dims.seqs = dims.logitRows = dims.pagesPerSeq = dims.pageSize = dims.numPages = kTokens;
      Launch launch(abi::AssignSlotsParams{kExperts, kTopK, group, "0,1,2;3,2,4;5,0"}, dims);
      launch.header().numTokens = kTokens;
      launch.header().numSeqs = decode ? kTokens : 4;
      std::copy(ids.begin(), ids.end(), launch.arg<int32_t>("ids"));
      runEverywhere(launch, {"offsets", "inverse"}, [&] {
        const std::vector<int32_t> &own = groups[size_t(group)];
        const auto *offsets = launch.arg<int32_t>("offsets");
        const auto *order = launch.arg<int32_t>("order"), *inverse = launch.arg<int32_t>("inverse");
        ASSERT_EQ(offsets[0], 0);
        for (size_t slot = 0; slot < own.size(); ++slot)
          for (int32_t row = offsets[slot]; row < offsets[slot + 1]; ++row) {
            const int32_t pair = order[row];
            ASSERT_EQ(ids[size_t(pair)], own[slot]);
            ASSERT_EQ(inverse[pair], row);
            EXPECT_TRUE(row == offsets[slot] || order[row - 1] < pair);
            EXPECT_TRUE(servedBy[size_t(pair)] == -1 || servedBy[size_t(pair)] == group);
            servedBy[size_t(pair)] = group;
            groupsOfExpert[own[slot]].insert(group);
          }
        EXPECT_EQ(
            std::count_if(inverse, inverse + ids.size(), [](int32_t row) { return row >= 0; }),
            offsets[own.size()]);
      });
    }
    EXPECT_EQ(std::count(servedBy.begin(), servedBy.end(), -1), 0);
    // Experts 0 and 2 have two copies: all tokens go to one of them, or some are split.
    const size_t used = groupsOfExpert[0].size() + groupsOfExpert[2].size();
    EXPECT_TRUE(decode ? used == 2 : used > 2) << used;
  }
}

} // namespace
} // namespace sluice::host::test
