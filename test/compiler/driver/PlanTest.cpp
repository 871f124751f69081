//===- PlanTest.cpp - Plans of real models ----------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Predicted bytes are held to those of compiled plans, and verdicts on published models to numbers
// worked out by hand from their configurations.
//
//===----------------------------------------------------------------------===//
#include "compiler/driver/Plan.h"

#include "runtime/base/File.h"
#include "runtime/base/Json.h"

#include <gmock/gmock.h>

using namespace sluice;
using namespace sluice::planner;
using testing::HasSubstr;

namespace {

const std::string kSource = SLUICE_SOURCE_DIR;

CompileOptions optionsFor(const std::string &config, const char *target, const char *quantize) {
  CompileOptions options;
  options.model = kSource + "/examples/configs/" + config;
  options.weights = "synthetic";
  options.target = target;
  options.quantize = quantize;
  options.kvType = "";
  return options;
}

Result<PlanReport> plan(const CompileOptions &options, const PlanRequest &request) {
  PlanOptions planOptions;
  planOptions.request = request;
  CompileHooks hooks;
  std::string errors;
  hooks.diagnostic = [&](const std::string &text) { errors += text + "\n"; };
  PlanReport report;
  Status status = planModel(options, planOptions, hooks, report);
  if (!status.isOk() && status.code() != StatusCode::kResourceExhausted)
    return status.withContext(errors);
  return report;
}

/// The closed formulas of RankMemory.h for the shape that a report was lowered for.
RankMemory formulaOf(const PlanReport &report) {
  const Candidate &subject = *report.decision.subject();
  return rankMemory(report.model, subject.shape, subject.facts, report.decision.target);
}

} // namespace

/// Weights and caches follow from rules of sharding; the partition pass follows the same ones.
TEST(PlannedMemory, FormulasEqualTheCompiledPlans) {
  struct Case {
    const char *config, *quantize;
    ParallelShape shape;
  };
  const Case cases[] = {
      {"Mixtral-8x7B-v0.1", "keep", {1, 1, 1}},
      {"Mixtral-8x7B-v0.1", "keep", {2, 4, 1}},
      {"Mixtral-8x7B-v0.1", "keep", {4, 2, 2}},
      {"Qwen3-30B-A3B-FP8", "keep", {2, 4, 2}},
      {"Qwen3-30B-A3B-FP8", "keep", {1, 8, 8}},
      {"DeepSeek-V2-Lite", "bf16", {2, 2, 2}},
      {"gpt-oss-20b", "keep", {1, 4, 1}},
      {"gpt-oss-20b", "keep", {2, 4, 4}},
      {"OLMoE-1B-7B-0125-Instruct", "keep", {2, 2, 1}},
      {"Qwen1.5-MoE-A2.7B", "keep", {1, 4, 2}},
      {"Llama-4-Scout-17B-16E-Instruct", "keep", {2, 4, 1}},
      {"GLM-4.5-Air", "bf16", {4, 2, 4}},
      {"Qwen1.5-MoE-A2.7B", "keep", {1, 4, 1, 66}},
      {"Mixtral-8x7B-v0.1", "fp8-block", {2, 4, 2}},
      {"Qwen3-30B-A3B", "mxfp4:experts", {2, 2, 1}},
      {"DeepSeek-V2-Lite", "int4-g32:experts", {1, 4, 1}},
  };
  for (const Case &entry : cases) {
    SCOPED_TRACE(std::string(entry.config) + " " + entry.shape.name());
    Result<PlanReport> report =
        plan(optionsFor(entry.config, "mi300x", entry.quantize), {.tp = entry.shape.tp,
                                                                  .ep = entry.shape.ep,
                                                                  .dp = entry.shape.dp,
                                                                  .slots = entry.shape.slots});
    ASSERT_TRUE(report.isOk()) << report.status().toString();
    const RankMemory &exact = report->decision.subject()->memory;
    ASSERT_TRUE(exact.isExact);
    RankMemory formula = formulaOf(*report);
    for (int role = 0; role < kWeightRoles; ++role)
      EXPECT_EQ(formula.weights[size_t(role)], exact.weights[size_t(role)])
          << weightRoleName(WeightRole(role));
    EXPECT_EQ(formula.padding, exact.padding);
    EXPECT_EQ(formula.kv, exact.kv);
    EXPECT_GE(formula.arena + (64 << 10), exact.arena);
  }
}

/// What is promised is what a compilation of all buckets declares.
TEST(PlannedMemory, SlabsAreThoseOfACompilation) {
  for (ParallelShape shape : {ParallelShape{1, 1, 1}, {2, 1, 1}, {1, 4, 2}, {2, 2, 1}}) {
    SCOPED_TRACE(shape.name());
    CompileOptions options;
    options.model = kSource + "/examples/moe-4m";
    Result<PlanReport> report = plan(options, {.tp = shape.tp, .ep = shape.ep, .dp = shape.dp});
    ASSERT_TRUE(report.isOk()) << report.status().toString();
    options.ranks = shape.ranks();
    options.tp = shape.tp;
    options.ep = shape.ep;
    options.dp = shape.dp;
    options.compileTo = "planned";
    options.report = testing::TempDir() + "/sluice-plan-test.json";
    Status status = compileModel(options, {});
    ASSERT_TRUE(status.isOk()) << status.toString();
    json::Value value = *json::parseFile(options.report);
    json::Cursor root(value, options.report);
    json::Cursor ranks = *root.getArray("ranks");
    ASSERT_EQ(int64_t(ranks.value().size()), shape.ranks());
    const Candidate &subject = *report->decision.subject();
    ASSERT_EQ(subject.slabs.size(), ranks.value().size());
    int64_t most = 0;
    for (size_t i = 0; i < ranks.value().size(); ++i) {
      json::Cursor rank = *ranks.element(i), slabs = *rank.getObject("slabs");
      most = std::max(most, *rank.getInt("bytes"));
      EXPECT_EQ(subject.slabs[i].rank, *rank.getInt("rank"));
      EXPECT_EQ(int64_t(subject.slabs[i].weights), *slabs.getInt("weights"));
      EXPECT_EQ(int64_t(subject.slabs[i].kv), *slabs.getInt("kv"));
      EXPECT_EQ(int64_t(subject.slabs[i].arena), *slabs.getInt("arena"));
      EXPECT_EQ(int64_t(subject.slabs[i].io), *slabs.getInt("io"));
    }
    EXPECT_EQ(int64_t(subject.memory.slabBytes()), most);
  }
}

/// Numbers of DeepSeek-V3 from its configuration, by hand.
constexpr double kAttention = 61.0 * (7168.0 * 1536 + 1536.0 * 128 * 192 + 7168.0 * 576 +
                                      512.0 * 128 * 256 + 128.0 * 128 * 7168);
constexpr double kExpert = 3.0 * 7168 * 2048;
constexpr double kTotal = 2.0 * 129280 * 7168 + kAttention + 3 * (3.0 * 7168 * 18432) +
                          58 * (257 * kExpert + 256.0 * 7168);

TEST(Verdict, DeepSeekV3InBf16DoesNotFitOnEightH100) {
  CompileOptions options = optionsFor("DeepSeek-V3", "h100x8", "bf16");
  PlanReport report;
  PlanOptions planOptions;
  Status status = planModel(options, planOptions, {}, report);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("all weights together are 1.34 TB (bf16)"));
  EXPECT_NEAR(double(report.model.weightBytes()) / (2 * kTotal), 1, 1e-3);
  EXPECT_NEAR(2 * kTotal, 1.342e12, 0.001e12);
  // An eighth of the experts alone is twice what a device has.
  const RankMemory &memory = report.decision.subject()->memory;
  EXPECT_EQ(double(memory.weights[size_t(WeightRole::kExperts)]), 58 * 256 / 8 * kExpert * 2);
  EXPECT_GT(58 * 256 / 8 * kExpert * 2, 1.7 * 85017493504);
  for (const char *remedy : {"--quantize bf16,int4-g128", "24 devices"})
    EXPECT_THAT(std::string(status.message()), HasSubstr(remedy));
}

TEST(Verdict, DeepSeekV3InBf16FitsOn32H100) {
  Result<PlanReport> report =
      plan(optionsFor("DeepSeek-V3", "h100x8x4", "bf16"), {.tp = 1, .dp = 4});
  ASSERT_TRUE(report.isOk()) << report.status().toString();
  ASSERT_TRUE(report->decision.chosen);
  EXPECT_EQ(report->decision.ranks, 32);
  const RankMemory &memory = report->decision.subject()->memory;
  EXPECT_EQ(double(memory.weights[size_t(WeightRole::kExperts)]), 58 * 256 / 32 * kExpert * 2);
  EXPECT_LT(memory.total(), 85017493504u);
}

TEST(Verdict, DeepSeekV3InFp8FitsOnEightH200) {
  Result<PlanReport> report = plan(optionsFor("DeepSeek-V3", "h200x8", "keep"), {});
  ASSERT_TRUE(report.isOk()) << report.status().toString();
  ASSERT_TRUE(report->decision.chosen);
  const RankMemory &memory = report->decision.subject()->memory;
  // A byte per number, and four per 128 for its scale.
  EXPECT_EQ(double(memory.weights[size_t(WeightRole::kExperts)]),
            58 * 256 / 8 * kExpert * (1 + 4.0 / 128));
  EXPECT_LT(memory.total(), uint64_t(143771) << 20);
  // And not on eight H100.
  EXPECT_FALSE(plan(optionsFor("DeepSeek-V3", "h100x8", "keep"), {})->decision.chosen.has_value());
}

TEST(Verdict, KimiK2FindsTheFewestH200) {
  Result<PlanReport> report = plan(optionsFor("Kimi-K2-Instruct", "h200", "keep"), {});
  ASSERT_TRUE(report.isOk()) << report.status().toString();
  ASSERT_TRUE(report->decision.chosen);
  // 60 layers of 384 experts with 3 * 7168 * 2048 numbers: 1.05 TB of codes and scales, too much
  // for four devices and 122 of the 140 GiB of eight.
  const double experts = 60.0 * 384 * kExpert * (1 + 4.0 / 128);
  EXPECT_GT(experts / 4, 143771 * 1048576.0);
  EXPECT_EQ(report->decision.ranks, 8);
  const RankMemory &memory = report->decision.subject()->memory;
  EXPECT_EQ(double(memory.weights[size_t(WeightRole::kExperts)]), experts / 8);
}

TEST(Requests, ImpossibleShapesNameTheRule) {
  auto error = [](const char *config, const PlanRequest &request) {
    Result<PlanReport> report = plan(optionsFor(config, "h100", "keep"), request);
    return report.isOk() ? "" : report.status().toString();
  };
  EXPECT_THAT(error("Qwen3-30B-A3B-FP8", {.tp = 4, .ep = 1}), HasSubstr("blocks of 128 columns"));
  EXPECT_THAT(error("gpt-oss-20b", {.tp = 4, .ep = 1}), HasSubstr("blocks of 32 columns"));
  EXPECT_THAT(error("gpt-oss-20b", {.tp = 8, .ep = 1}), HasSubstr("blocks of 32 columns"));
  EXPECT_THAT(error("gpt-oss-20b", {.tp = 1, .ep = 64}),
              HasSubstr("exceeds the number of experts"));
}

TEST(Compile, RefusesBeforeItReadsWeights) {
  CompileOptions options = optionsFor("DeepSeek-V3", "h100x8", "bf16");
  options.kvType = "bf16";
  options.output = testing::TempDir() + "/never.sluice";
  Status status = compileModel(options, {});
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1.34 TB"));
  options.target = "h200x8";
  options.quantize = "keep";
  EXPECT_EQ(compileModel(options, {}).code(), StatusCode::kUnsupported);
}
