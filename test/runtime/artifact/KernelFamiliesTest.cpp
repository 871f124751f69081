//===- KernelFamiliesTest.cpp - Calling conventions of kernels -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every family goes through the same checks: parameters survive a round trip, each missing, unknown
// or ill-typed one is refused by name, arguments and sizes agree in number.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/KernelFamilies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace sluice::abi {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr StepDims kDims = {/*tokens=*/8,      /*seqs=*/3,      /*logitRows=*/5,
                            /*pagesPerSeq=*/4, /*pageSize=*/16, /*numPages=*/10};

/// One valid instance per family, with no field at its default where that is possible.
std::vector<FamilyParams> examples() {
  QkvParams qkv;
  qkv.k = 32, qkv.qHeads = 4, qkv.kvHeads = 2, qkv.headDim = 8, qkv.valueDim = 6;
  qkv.format = "f16", qkv.cacheType = "bf16", qkv.bias = true, qkv.clip = 8;
  qkv.qkNorm = QkNorm::kPerHead, qkv.eps = 1e-3;
  qkv.rope = {4, 2, true, 2, 4096, 1.25};
  qkv.tempScale = 0.1, qkv.tempFloor = 8192;
  RouterParams router;
  router.hidden = 32, router.experts = 8, router.topK = 2, router.format = "f32";
  router.bias = router.correction = true, router.score = ScoreFunction::kSigmoid;
  router.scoreFirst = false, router.renormalize = false, router.epsilon = 1e-20, router.scale = 2.5;
  router.groups = 4, router.topkGroup = 2, router.groupScore = GroupScore::kTop2Sum;
  router.jitter = 0.01;
  LatentQueryParams latentQuery{4, 24, 8, 6, "f16", {4, 9, true, 2, 4096, 1.25}};
  LatentAppendParams latentAppend{24, 6, "bf16", 1e-3, {4, 2, true, 2, 4096, 1.25}};
  return {EmbeddingParams{100, 32, "f32", 5.5},
          NormParams{NormKind::kLayer, RowSet::kLogitRows, 32, 4, 1e-6, true},
          ResidualNormParams{NormKind::kLayer, 32, 1e-6, 0.5, true},
          ResidualParams{32, 0.25},
          LinearParams{20, 32, "f16", RowSet::kLogitRows, true, 0.5, 30},
          FfnGateUpParams{24, 32, "f32", true, {Activation::kSwigluOai, 1.702, 7}},
          qkv,
          AttentionParams{4, 2, 8, 6, "bf16", 0.125, 50, 128, 64, true},
          router,
          ExpertsGateUpParams{8, 2, 24, 32, "f16", true, true, {Activation::kGeluTanh, 1, 0}},
          ExpertsDownParams{8, 2, 32, 24, "f16", true, true},
          GatherRowsParams{32},
          SampleParams{100},
          latentQuery,
          latentAppend,
          AbsorbedAttentionParams{4, 24, 6, 20, "f16", "bf16", 0.125},
          SigmoidGateParams{24, 32},
          TemperatureParams{24, 0.1, 8192, 1},
          AssignSlotsParams{4, 2, 1, "0,1;3,2,1"},
          RoundRowsParams{160, "f8e4m3:group128", RowSet::kLogitRows}};
}

ParamValue &paramOf(Params &params, std::string_view name) {
  for (auto &[key, value] : params)
    if (key == name)
      return value;
  ADD_FAILURE() << "no parameter " << name;
  return params.front().second;
}

std::string errorOf(const char *family, const Params &params) {
  return fromParams(family, params).status().toString();
}

std::vector<uint64_t> sizesOf(const FamilyParams &params, const StepDims &dims = kDims) {
  auto sizes = familyArgBytes(params, dims);
  EXPECT_TRUE(sizes.isOk()) << sizes.status().toString();
  return sizes.isOk() ? *sizes : std::vector<uint64_t>();
}

TEST(KernelFamilies, ExamplesCoverEveryFamilyInOrder) {
  auto all = examples();
  ASSERT_EQ(all.size(), std::variant_size_v<FamilyParams>);
  for (size_t i = 0; i < all.size(); ++i)
    EXPECT_EQ(all[i].index(), i);
}

TEST(KernelFamilies, ParametersRoundTrip) {
  for (const FamilyParams &family : examples()) {
    Params params = toParams(family);
    auto parsed = fromParams(familyName(family), params);
    ASSERT_TRUE(parsed.isOk()) << parsed.status().toString();
    EXPECT_EQ(parsed->index(), family.index());
    EXPECT_EQ(toParams(*parsed), params) << familyName(family);
    std::reverse(params.begin(), params.end());
    auto reversed = fromParams(familyName(family), params);
    ASSERT_TRUE(reversed.isOk()) << reversed.status().toString();
    EXPECT_EQ(toParams(*reversed), toParams(family));
  }
}

TEST(KernelFamilies, NamesAndSpellings) {
  Params params = toParams(examples()[8]);
  EXPECT_STREQ(familyName(examples()[8]), "router");
  EXPECT_EQ(params.front(), (std::pair<std::string, ParamValue>("hidden", int64_t(32))));
  EXPECT_EQ(paramOf(params, "score"), ParamValue(std::string("sigmoid")));
  EXPECT_EQ(paramOf(params, "group_score"), ParamValue(std::string("top2_sum")));
  EXPECT_EQ(paramOf(params, "correction"), ParamValue(int64_t(1)));
  EXPECT_EQ(paramOf(params, "scale"), ParamValue(2.5));
}

TEST(KernelFamilies, MissingUnknownDuplicateAndIllTypedParameters) {
  for (const FamilyParams &family : examples()) {
    const char *name = familyName(family);
    const Params good = toParams(family);
    for (size_t i = 0; i < good.size(); ++i) {
      SCOPED_TRACE(std::string(name) + "." + good[i].first);
      Params missing = good;
      missing.erase(missing.begin() + long(i));
      EXPECT_THAT(errorOf(name, missing), HasSubstr("\"" + good[i].first + "\" is missing"));
      Params twice = good;
      twice.push_back(good[i]);
      EXPECT_THAT(errorOf(name, twice), HasSubstr("appears twice"));
      Params mistyped = good;
      if (std::holds_alternative<std::string>(good[i].second))
        mistyped[i].second = int64_t(1);
      else
        mistyped[i].second = std::string("1");
      EXPECT_THAT(errorOf(name, mistyped), HasSubstr("\"" + good[i].first + "\" must be"));
      if (std::holds_alternative<double>(good[i].second)) {
        Params infinite = good;
        infinite[i].second = std::numeric_limits<double>::infinity();
        EXPECT_THAT(errorOf(name, infinite), HasSubstr("not finite"));
      }
    }
    Params unknown = good;
    unknown.emplace_back("tile", int64_t(3));
    EXPECT_THAT(errorOf(name, unknown), HasSubstr("\"tile\""));
  }
  EXPECT_EQ(fromParams("matmul", {}).status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(errorOf("matmul", {}), HasSubstr("\"matmul\" is not known"));
}

TEST(KernelFamilies, EveryIntegerSizeIsRangeChecked) {
  // Sizes that have an upper limit: a value past any of them is refused, and so is 0 or -1.
  for (const FamilyParams &family : examples()) {
    const Params good = toParams(family);
    for (size_t i = 0; i < good.size(); ++i) {
      if (!std::holds_alternative<int64_t>(good[i].second))
        continue;
      for (int64_t value : {int64_t(-1), int64_t(1) << 40}) {
        Params bad = good;
        bad[i].second = value;
        EXPECT_EQ(fromParams(familyName(family), bad).status().code(), StatusCode::kInvalidArgument)
            << familyName(family) << "." << good[i].first << " = " << value;
      }
    }
  }
}

TEST(KernelFamilies, RangeErrorsNameValueAndLimit) {
  auto expectError = [](size_t family, const char *name, ParamValue value, const char *message) {
    Params params = toParams(examples()[family]);
    paramOf(params, name) = std::move(value);
    EXPECT_THAT(errorOf(familyName(examples()[family]), params), HasSubstr(message));
  };
  expectError(8, "top_k", int64_t(9), "\"top_k\" is 9, outside [1, 8]");
  expectError(8, "top_k", int64_t(5), "exceeds the experts of the groups kept");
  expectError(8, "groups", int64_t(3), "\"groups\" = 3 does not divide parameter \"experts\" = 8");
  expectError(8, "group_score", std::string("none"), "there are groups to rank");
  expectError(8, "score", std::string("tanh"), "must be one of softmax, sigmoid, sqrt_softplus");
  expectError(8, "bias", int64_t(2), "0 or 1");
  expectError(6, "kv_heads", int64_t(3), "does not divide");
  expectError(6, "rope_dim", int64_t(3), "is odd");
  expectError(6, "rope_offset", int64_t(5), "outside [0, 4]");
  expectError(6, "cache_type", std::string("i8"), "\"i8\"");
  expectError(4, "softcap", -1.0, "must not be negative");
  expectError(4, "format", std::string("fp7"), "\"fp7\" is not known");
  expectError(4, "n", int64_t(0), "\"n\" is 0, outside [1, 1073741824]");
  expectError(13, "rope_offset", int64_t(7), "\"rope_offset\" is 7, outside [8, 10]");
  expectError(13, "rope_dim", int64_t(8), "\"rope_dim\" is 8, outside [0, 6]");
  expectError(14, "rope_offset", int64_t(3), "\"rope_offset\" is 3, outside [0, 2]");
  expectError(14, "eps", -1.0, "must not be negative");
  expectError(15, "heads", int64_t(5000), "\"heads\" is 5000, outside [1, 4096]");
  expectError(15, "cache_type", std::string("f8e4m3"), "\"f8e4m3\"");
  expectError(17, "floor", 0.0, "\"floor\" is 0.000000; it must be positive");
  expectError(18, "group", int64_t(2), "\"group\" is 2, outside [0, 1]");
  expectError(18, "slots", std::string(""), "no expert in [0, 3] at slot 0");
  expectError(18, "slots", std::string("0,1;2,4,3"), "no expert in [0, 3] at slot 3");
  expectError(18, "slots", std::string("0,1;2,3;"), "no expert in [0, 3] at slot 4");
  expectError(18, "slots", std::string("0,1 2,3"), "has \" \" after slot 1");
  expectError(18, "slots", std::string("0,1;3,2,3"), "gives group 1 expert 3 twice");
  expectError(18, "slots", std::string("0,1;3,1"), "has no slot for expert 2");
  Params quantized = toParams(examples()[4]);
  paramOf(quantized, "format") = std::string("mxfp4");
  EXPECT_TRUE(fromParams("linear", quantized).isOk());
  paramOf(quantized, "format") = std::string("f8e4m3:tensor");
  EXPECT_EQ(fromParams("linear", quantized).status().code(), StatusCode::kUnsupported);
  Params table = toParams(examples()[0]);
  paramOf(table, "format") = std::string("i8:channel");
  EXPECT_EQ(fromParams("embedding", table).status().code(), StatusCode::kUnsupported);
  Params mixer = toParams(RouterParams{.hidden = 4, .experts = 4, .topK = 3, .sparseMixer = true});
  EXPECT_THAT(errorOf("router", mixer), HasSubstr("sparse mixer"));
  Params l2 = toParams(NormParams{.kind = NormKind::kL2, .width = 4, .bias = true});
  EXPECT_THAT(errorOf("norm", l2), HasSubstr("l2 norm"));
  Params residualL2 = toParams(ResidualNormParams{.kind = NormKind::kL2, .width = 4});
  EXPECT_THAT(errorOf("residual_norm", residualL2), HasSubstr("l2"));
}

TEST(KernelFamilies, ArgumentsAndSizesCorrespond) {
  for (const FamilyParams &family : examples()) {
    const auto &args = familyArgs(family);
    auto sizes = sizesOf(family);
    ASSERT_EQ(args.size(), sizes.size()) << familyName(family);
    EXPECT_STREQ(args[0].name, "header");
    EXPECT_EQ(sizes[0], 32u);
    // The examples ask for every optional argument.
    for (size_t i = 0; i < args.size(); ++i)
      EXPECT_GT(sizes[i], 0u) << familyName(family) << "." << args[i].name;
  }
}

TEST(KernelFamilies, ExactSizes) {
  auto all = examples();
  // T = 8, S = 3, R = 5; panel16 rounds n up to 16.
  EXPECT_THAT(sizesOf(all[0]), ElementsAre(32, 32, 100 * 32 * 4, 8 * 32 * 4));
  EXPECT_THAT(sizesOf(all[1]), ElementsAre(32, 5 * 32 * 4, 8 * 4, 8 * 4, 5 * 32 * 4));
  EXPECT_THAT(sizesOf(all[2]), ElementsAre(32, 1024, 1024, 32 * 4, 32 * 4, 1024, 1024));
  EXPECT_THAT(sizesOf(all[3]), ElementsAre(32, 1024, 1024, 1024));
  EXPECT_THAT(sizesOf(all[4]), ElementsAre(32, 5 * 32 * 4, 32 * 32 * 2, 20 * 4, 5 * 20 * 4));
  EXPECT_THAT(sizesOf(all[5]), ElementsAre(32, 1024, 2 * 32 * 32 * 4, 2 * 24 * 4, 8 * 24 * 4));
  // 4 * 8 + 2 * (8 + 6) = 60 projected rows in 4 panels.
  EXPECT_THAT(sizesOf(all[6]), ElementsAre(32, 32, 32, 12, 3 * 4 * 4, 1024, 64 * 32 * 2, 60 * 4,
                                           8 * 4, 8 * 4, 2 * 2 * 4, 8 * 32 * 4, 10 * 2 * 16 * 8 * 2,
                                           10 * 2 * 16 * 6 * 2, 8 * 60 * 4));
  EXPECT_THAT(sizesOf(all[7]), ElementsAre(32, 32, 32, 16, 12, 48, 8 * 32 * 4, 10 * 2 * 16 * 8 * 2,
                                           10 * 2 * 16 * 6 * 2, 16, 8 * 24 * 4, 3 * 4 * 8 * 4));
  EXPECT_THAT(sizesOf(all[8]), ElementsAre(32, 1024, 16 * 32 * 4, 32, 32, 64, 64, 36, 64, 64, 32,
                                           (2 * 8 * 8 + 9) * 4));
  EXPECT_THAT(sizesOf(all[9]),
              ElementsAre(32, 1024, 36, 64, 64, 8 * 2 * 32 * 32 * 2, 8 * 2 * 24 * 4, 16 * 24 * 4));
  EXPECT_THAT(sizesOf(all[10]), ElementsAre(32, 16 * 24 * 4, 36, 64, 64, 64, 8 * 32 * 24 * 2,
                                            8 * 32 * 4, 8 * 32 * 4, 16 * 32 * 4));
  EXPECT_THAT(sizesOf(all[11]), ElementsAre(32, 20, 1024, 5 * 32 * 4));
  EXPECT_THAT(sizesOf(all[12]), ElementsAre(32, 5 * 100 * 4, 5 * 32, 20, 5 * 100 * 8));
  // Four blobs of 24 rows in two panels of 8 columns; rows of 24 + 6 in the cache.
  EXPECT_THAT(sizesOf(all[13]), ElementsAre(32, 32, 32, 12, 8 * 4 * 14 * 4, 4 * 32 * 8 * 2,
                                            2 * 2 * 4, 8 * 4 * 30 * 4));
  EXPECT_THAT(sizesOf(all[14]),
              ElementsAre(32, 32, 32, 12, 48, 8 * 30 * 4, 24 * 4, 2 * 2 * 4, 10 * 16 * 30 * 2));
  EXPECT_THAT(sizesOf(all[15]),
              ElementsAre(32, 32, 32, 16, 12, 48, 8 * 4 * 30 * 4, 10 * 16 * 30 * 2, 4 * 32 * 24 * 2,
                          8 * 4 * 20 * 4, 8 * 4 * 24 * 4, 3 * 4 * 26 * 4));
  EXPECT_THAT(sizesOf(all[16]), ElementsAre(32, 8 * 24 * 4, 8 * 32 * 4, 32 * 4, 8 * 24 * 4));
  EXPECT_THAT(sizesOf(all[17]), ElementsAre(32, 32, 8 * 24 * 4, 8 * 24 * 4));
  // Three own slots of five; 16 pairs.
  EXPECT_THAT(sizesOf(all[18]), ElementsAre(32, 64, 16, 64, 64, (16 + 4 * 4 + 6 * 2 + 2 * 5) * 4));
}

TEST(KernelFamilies, OptionalArgumentsAreAbsentUnlessAskedFor) {
  auto absent = [](const FamilyParams &family) {
    std::vector<std::string> names;
    auto sizes = sizesOf(family);
    for (size_t i = 0; i < sizes.size(); ++i)
      if (sizes[i] == 0)
        names.push_back(familyArgs(family)[i].name);
    return names;
  };
  EXPECT_THAT(absent(LinearParams{.n = 16, .k = 16}), ElementsAre("bias"));
  EXPECT_THAT(absent(NormParams{.width = 16}), ElementsAre("bias"));
  EXPECT_THAT(absent(NormParams{.kind = NormKind::kL2, .width = 16}),
              ElementsAre("weight", "bias"));
  QkvParams qkv;
  qkv.k = 8, qkv.qHeads = qkv.kvHeads = 1, qkv.headDim = qkv.valueDim = 8;
  EXPECT_THAT(absent(qkv), ElementsAre("bias", "q_norm", "k_norm", "rope"));
  qkv.qkNorm = QkNorm::kL2AfterRope;
  EXPECT_THAT(absent(qkv), ElementsAre("bias", "q_norm", "k_norm", "rope"));
  qkv.qkNorm = QkNorm::kWhole, qkv.qHeads = 4;
  EXPECT_EQ(sizesOf(qkv)[8], 4u * 8 * 4);
  EXPECT_EQ(sizesOf(qkv)[9], 1u * 8 * 4);
  EXPECT_THAT(absent(RouterParams{.hidden = 8, .experts = 4, .topK = 1}),
              ElementsAre("bias", "correction"));
  AttentionParams attention{.qHeads = 1, .kvHeads = 1, .headDim = 8, .valueDim = 8};
  EXPECT_THAT(absent(attention), ElementsAre("sinks"));
  EXPECT_THAT(absent(LatentQueryParams{.heads = 1, .latent = 8, .nope = 8, .rope = {}}),
              ElementsAre("rope"));
  EXPECT_THAT(absent(LatentAppendParams{.latent = 8, .rope = {}}), ElementsAre("rope"));
}

TEST(KernelFamilies, HostileSizesFail) {
  StepDims zero = kDims;
  zero.tokens = 0;
  EXPECT_THAT(familyArgBytes(examples()[0], zero).status().toString(),
              HasSubstr("number of tokens is 0"));
  StepDims huge = kDims;
  huge.numPages = int64_t(1) << 40;
  EXPECT_THAT(familyArgBytes(examples()[6], huge).status().toString(), HasSubstr("pages is"));
  huge = kDims;
  huge.tokens = huge.numPages = huge.pageSize = INT32_MAX;
  for (size_t family : {6, 7, 14, 15})
    EXPECT_THAT(familyArgBytes(examples()[family], huge).status().toString(), HasSubstr("2^62"));
  // Struct fields that never went through fromParams() are checked all the same.
  LinearParams linear{.n = INT64_MAX, .k = INT64_MAX};
  EXPECT_FALSE(familyArgBytes(linear, kDims).isOk());
  linear = {.n = 16, .k = 16, .format = "fp7"};
  EXPECT_THAT(familyArgBytes(linear, kDims).status().toString(), HasSubstr("\"fp7\""));
}

} // namespace
} // namespace sluice::abi
