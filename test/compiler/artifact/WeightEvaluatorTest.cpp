//===- WeightEvaluatorTest.cpp - Ranges of expressions against elements -----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/WeightEvaluator.h"
#include "compiler/artifact/SyntheticWeights.h"
#include "test/compiler/artifact/NaiveWeights.h"
#include "test/runtime/base/TempDir.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <thread>

using namespace mlir;
using namespace sluice;
using namespace sluice::test;
using testing::HasSubstr;

namespace {

class WeightEvaluatorTest : public testing::Test {
protected:
  WeightEvaluatorTest() : builder(&context) {
    context.loadDialect<moe::MoeDialect>();
    tiny.config = json::Value::object();
    tiny.tensors["f32"] = {DataType::kF32, {4, 3, 5}, 0};
    tiny.tensors["bf16"] = {DataType::kBF16, {6, 10}, 0};
    tiny.tensors["f16"] = {DataType::kF16, {2, 3, 2, 5}, 0};
    for (int i = 0; i < 4; ++i)
      tiny.tensors["e." + std::to_string(i) + ".w"] = {DataType::kBF16, {3, 5}, i / 2};
    tiny.tensors["f8"] = {DataType::kF8E4M3, {4}, 0};
    tiny.write(dir.path(), /*sharded=*/true);
    auto opened = Checkpoint::open(dir.path());
    EXPECT_TRUE(opened.isOk()) << opened.status().toString();
    checkpoint.emplace(std::move(*opened));
  }

  TypedAttr parse(const std::string &text) {
    Attribute attr = parseAttribute(text, &context);
    EXPECT_TRUE(attr) << text;
    return dyn_cast_or_null<TypedAttr>(attr);
  }
  Status createError(const std::string &text) {
    return WeightEvaluator::create(parse(text), *checkpoint).status();
  }

  /// Compares the whole and `splits` random ranges with the naive evaluation.
  void check(TypedAttr expr, std::mt19937 &random, int splits) {
    std::string text;
    llvm::raw_string_ostream(text) << expr;
    SCOPED_TRACE(text);
    std::vector<float> expected = naiveValues(expr, tiny);
    auto evaluator = WeightEvaluator::create(expr, *checkpoint);
    ASSERT_TRUE(evaluator.isOk()) << evaluator.status().toString();
    ASSERT_EQ(evaluator->numElements(), int64_t(expected.size()));
    EXPECT_EQ(ArrayRef<int64_t>(evaluator->shape()), moe::getWeightType(expr).getShape());
    int64_t n = evaluator->numElements();
    for (int i = 0; i <= splits; ++i) {
      int64_t begin = i ? int64_t(random() % uint64_t(n + 1)) : 0;
      int64_t count = i ? int64_t(random() % uint64_t(n - begin + 1)) : n;
      std::vector<std::byte> bytes(size_t(count * evaluator->elementBytes()));
      Status status = evaluator->read(begin, count, bytes.data());
      ASSERT_TRUE(status.isOk()) << status.toString();
      std::vector<float> values = toFloats(evaluator->dtype(), bytes.data(), size_t(count));
      ASSERT_EQ(values,
                std::vector<float>(expected.begin() + begin, expected.begin() + begin + count))
          << "[" << begin << ", +" << count << ")";
    }
  }

  /// A random expression of at most `depth` inner nodes above a leaf.
  TypedAttr randomExpr(std::mt19937 &random, int depth);

  TempDir dir;
  TinyCheckpoint tiny;
  std::optional<Checkpoint> checkpoint;
  MLIRContext context;
  Builder builder;
};

TypedAttr WeightEvaluatorTest::randomExpr(std::mt19937 &random, int depth) {
  auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
  if (depth == 0) {
    static const char *const leaves[] = {
        R"(#moe.source<"f32" in "a" : tensor<4x3x5xf32>>)",
        R"(#moe.source<"bf16" in "a" : tensor<6x10xbf16>>)",
        R"(#moe.source<"f16" in "a" : tensor<2x3x2x5xf16>>)",
        R"(#moe.source<"made.up" in "" : tensor<4x15xbf16>>)",
        R"(#moe.stack<"e.{}.w" x 4 in ["a", "b"] : tensor<4x3x5xbf16>>)",
        R"(#moe.stack<"made.{}.up" x 3 in [""] : tensor<3x20xf32>>)",
        R"(dense<[[1.5, -2.0], [0.25, 8.0], [3.0, 5.0]]> : tensor<3x2xf32>)",
        R"(dense<-0.75> : tensor<5x4xf16>)",
    };
    return parse(leaves[below(std::size(leaves))]);
  }
  TypedAttr operand = randomExpr(random, depth - 1);
  ArrayRef<int64_t> shape = moe::getWeightType(operand).getShape();
  int64_t axis = below(int64_t(shape.size()));
  switch (below(7)) {
  case 0: {
    int64_t stride = 1 + below(3), begin = below(shape[axis]);
    int64_t size = 1 + below((shape[axis] - begin - 1) / stride + 1);
    return moe::SliceAttr::get(&context, operand, axis, begin, size, stride);
  }
  case 1: {
    SmallVector<int64_t> indices(size_t(1 + below(5)));
    for (int64_t &index : indices)
      index = below(shape[0] + 1) - 1;
    return moe::TakeAttr::get(&context, operand, builder.getDenseI64ArrayAttr(indices));
  }
  case 2: {
    SmallVector<TypedAttr> parts = {operand};
    for (int64_t i = below(3); i >= 0; --i) {
      int64_t begin = below(shape[axis]);
      parts.push_back(
          moe::SliceAttr::get(&context, operand, axis, begin, 1 + below(shape[axis] - begin), 1));
    }
    return moe::ConcatAttr::get(&context, axis, parts);
  }
  case 3: {
    SmallVector<int64_t> permutation(shape.size());
    std::iota(permutation.begin(), permutation.end(), 0);
    // Half of the time the first axis stays, as in stacks of transposed experts.
    std::shuffle(permutation.begin() + below(2), permutation.end(), random);
    return moe::TransposeAttr::get(&context, operand, builder.getDenseI64ArrayAttr(permutation));
  }
  case 4: {
    SmallVector<int64_t> merged(shape);
    if (merged.size() > 1) { // merge two axes, split off a one
      merged[0] *= merged[1];
      merged.erase(merged.begin() + 1);
      merged.insert(merged.begin() + below(int64_t(merged.size()) + 1), 1);
    }
    return moe::ReshapeAttr::get(&context, operand, moe::getWeightType(operand).clone(merged));
  }
  case 5: {
    int64_t times = 1 + below(4);
    int64_t size = shape[axis] * times - below(times);
    return moe::RepeatAttr::get(&context, operand, axis, times, size);
  }
  default: {
    Type types[] = {builder.getF32Type(), builder.getBF16Type(), builder.getF16Type()};
    return moe::ConvertAttr::get(&context, operand, types[below(3)]);
  }
  }
}

TEST_F(WeightEvaluatorTest, RandomExpressions) {
  std::mt19937 random(7);
  for (int i = 0; i < 400 && !HasFailure(); ++i)
    check(randomExpr(random, i % 5), random, 4);
}

TEST_F(WeightEvaluatorTest, InterleavedRows) {
  // Every other row of each expert, as gate and up are stored by gpt-oss.
  std::mt19937 random(1);
  for (int64_t begin : {0, 1})
    check(moe::SliceAttr::get(&context, parse(R"(#moe.source<"bf16" in "a" : tensor<6x10xbf16>>)"),
                              1, begin, 5, 2),
          random, 8);
}

TEST_F(WeightEvaluatorTest, LargeRangesAreConvertedAndGatheredInChunks) {
  // Beyond the sizes at which conversion, generation and strided reads go piece by piece.
  TypedAttr big = parse(R"(#moe.source<"big" in "" : tensor<300x1000xf32>>)");
  TypedAttr expr = moe::ConvertAttr::get(&context, moe::SliceAttr::get(&context, big, 0, 1, 100, 3),
                                         builder.getBF16Type());
  std::mt19937 random(3);
  check(expr, random, 3);
}

TEST_F(WeightEvaluatorTest, Dequantization) {
  std::mt19937 random(5);
  for (
      const char *text : {
          // Partial last groups, scales shared by blocks of rows.
          R"(#moe.dequantize<#moe.source<"q" in "" : tensor<7x11xf8E4M3FN>> by
              #moe.repeat<#moe.source<"s" in "" : tensor<3x3xf32>>, axis = 0, times = 3, size = 7>
              group = 4>)",
          R"(#moe.dequantize<#moe.source<"q" in "" : tensor<2x5x8xi8>> by
              #moe.source<"s" in "" : tensor<2x5x1xbf16>> group = 8>)",
          // Words with padding after each row, zeros in another order.
          R"(#moe.dequantize<#moe.unpack<#moe.source<"q" in "" : tensor<5x2xi32>> to i4, size = 12>
              by #moe.source<"s" in "" : tensor<5x3xf16>>
              minus #moe.unpack<#moe.source<"z" in "" : tensor<5x1xi32>> to i4, size = 3,
                                order = [0, 4, 1, 5, 2, 6, 3, 7]> group = 4, origin = 1>)",
          R"(#moe.dequantize<#moe.unpack<#moe.source<"q" in "" : tensor<3x5xi32>> to ui8, size = 18>
              by #moe.source<"s" in "" : tensor<3x2xf32>> group = 9, origin = 128>)",
          // Two levels of scales, the second divided by.
          R"(#moe.dequantize<
                #moe.dequantize<#moe.unpack<#moe.source<"q" in "" : tensor<4x16xui8>> to f4E2M1FN,
                                            size = 32>
                  by #moe.source<"s" in "" : tensor<4x2xf8E4M3FN>> group = 16>
                by #moe.reciprocal<#moe.repeat<dense<3.0> : tensor<1x1xf32>, axis = 0, times = 4,
                                               size = 4>> group = 32>)",
          R"(#moe.dequantize<#moe.unpack<#moe.source<"q" in "" : tensor<4x16xui8>> to f4E2M1FN,
                                          size = 32> by dense<0.5> : tensor<4x1xf8E8M0FNU>
              group = 32>)",
          // More than is read at once.
          R"(#moe.dequantize<
                #moe.unpack<#moe.source<"q" in "" : tensor<300x63xi32>> to i4, size = 500>
                by #moe.repeat<#moe.source<"s" in "" : tensor<3x16xf32>>, axis = 0, times = 128,
                               size = 300> group = 32, origin = 8>)",
      })
    check(parse(text), random, 8);
}

TEST_F(WeightEvaluatorTest, ThreadsShareATransposedWeight) {
  TypedAttr expr = parse("#moe.transpose<#moe.stack<\"e.{}.w\" x 4 in [\"a\"] : "
                         "tensor<4x3x5xbf16>>, [0, 2, 1]>");
  std::vector<float> expected = naiveValues(expr, tiny);
  auto evaluator = WeightEvaluator::create(expr, *checkpoint);
  ASSERT_TRUE(evaluator.isOk());
  std::vector<std::vector<std::byte>> results(3, std::vector<std::byte>(expected.size() * 2));
  std::vector<std::thread> threads;
  for (auto &result : results)
    threads.emplace_back([&] {
      for (int64_t i = 0; i < evaluator->numElements(); ++i)
        if (!evaluator->read(i, 1, result.data() + 2 * i).isOk())
          return;
    });
  for (std::thread &thread : threads)
    thread.join();
  for (auto &result : results)
    EXPECT_EQ(toFloats(DataType::kBF16, result.data(), expected.size()), expected);
}

TEST_F(WeightEvaluatorTest, LeavesMustMatchTheCheckpoint) {
  Status missing = createError(R"(#moe.source<"absent" in "a" : tensor<4xbf16>>)");
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("tensor \"absent\""));
  for (const char *text : {R"(#moe.source<"bf16" in "a" : tensor<10x6xbf16>>)",
                           R"(#moe.source<"bf16" in "a" : tensor<6x10xf16>>)",
                           R"(#moe.stack<"e.{}.w" x 2 in ["a"] : tensor<2x5x3xbf16>>)"}) {
    Status status = createError(text);
    EXPECT_EQ(status.code(), StatusCode::kDataCorrupt) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("another checkpoint"));
  }
  EXPECT_EQ(createError(R"(#moe.stack<"e.{}.w" x 5 in ["a"] : tensor<5x3x5xbf16>>)").code(),
            StatusCode::kNotFound);
}

TEST_F(WeightEvaluatorTest, UnsupportedTypes) {
  EXPECT_EQ(
      createError(R"(#moe.convert<#moe.source<"f8" in "a" : tensor<4xf8E4M3FN>> to i8>)").code(),
      StatusCode::kUnsupported);
  EXPECT_EQ(createError(R"(#moe.source<"x" in "" : tensor<4xi64>>)").code(),
            StatusCode::kUnsupported);
  EXPECT_EQ(createError(R"(#moe.source<"x" in "" : tensor<4xi4>>)").code(),
            StatusCode::kUnsupported);
  EXPECT_EQ(createError(R"(#moe.source<"x" in "a" : tensor<4xf4E2M1FN>>)").code(),
            StatusCode::kUnsupported);
}

TEST_F(WeightEvaluatorTest, RangesOutsideTheWeight) {
  auto evaluator = WeightEvaluator::create(
      parse(R"(#moe.source<"f32" in "a" : tensor<4x3x5xf32>>)"), *checkpoint);
  ASSERT_TRUE(evaluator.isOk());
  std::byte byte;
  for (auto [begin, count] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {-1, 1}, {0, -1}, {61, 0}, {60, 1}, {1, INT64_MAX}})
    EXPECT_EQ(evaluator->read(begin, count, &byte).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(evaluator->read(60, 0, &byte).isOk());
}

TEST_F(WeightEvaluatorTest, ShrunkenFileIsAnError) {
  auto evaluator = WeightEvaluator::create(
      parse(R"(#moe.source<"f32" in "a" : tensor<4x3x5xf32>>)"), *checkpoint);
  ASSERT_TRUE(evaluator.isOk());
  std::filesystem::resize_file(dir.file(shardName(0)), 100);
  std::vector<std::byte> bytes(240);
  Status status = evaluator->read(0, 60, bytes.data());
  EXPECT_EQ(status.code(), StatusCode::kDataCorrupt);
  EXPECT_THAT(std::string(status.message()), HasSubstr(shardName(0)));
}

TEST(SyntheticWeightsTest, SizesAndRanges) {
  const int64_t shape[] = {64, 256};
  SyntheticTensor matrix("model.layers.0.q.weight", shape);
  std::vector<float> values(64 * 256), part(100);
  matrix.generate(0, values);
  double sum = 0, squares = 0;
  for (float value : values)
    sum += value, squares += double(value) * value;
  EXPECT_NEAR(sum / double(values.size()), 0, 0.002);
  EXPECT_NEAR(squares / double(values.size()), 1.0 / 256, 0.0002);
  matrix.generate(1000, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), values.begin() + 1000));
  SyntheticTensor other("model.layers.1.q.weight", shape);
  other.generate(1000, part);
  EXPECT_FALSE(std::equal(part.begin(), part.end(), values.begin() + 1000));
  SyntheticTensor norm("model.norm.weight", std::span(shape).first(1));
  norm.generate(0, part);
  EXPECT_THAT(part, testing::Each(testing::FloatNear(1, 0.1001f)));
}

} // namespace
