//===- QuantizedWeightsTest.cpp - Codes and scales follow the numbers -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Whatever rearranges a quantised weight, codes and scales put together again must be the numbers
// of the expression. Both sides are evaluated element by element. The second half packs such
// weights and unpacks them.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/QuantizedWeights.h"
#include "compiler/artifact/WeightPacker.h"
#include "test/compiler/artifact/NaiveWeights.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <random>

using namespace mlir;
using namespace sluice;
using namespace sluice::test;

namespace {

/// Rows of 64 columns in each format that kernels read.
const char *const kLeaves[] = {
    R"(#moe.dequantize<#moe.stack<"e.{}.q" x 2 in [""] : tensor<2x48x64xf8E4M3FN>> by
       #moe.repeat<#moe.stack<"e.{}.s" x 2 in [""] : tensor<2x3x4xf32>>, axis = 1, times = 16,
                   size = 48> group = 16>)",
    R"(#moe.dequantize<#moe.source<"t.q" in "" : tensor<48x64xf8E4M3FN>> by
       #moe.repeat<#moe.source<"t.s" in "" : tensor<1x1xf32>>, axis = 0, times = 48, size = 48>
       group = 64>)",
    R"(#moe.dequantize<#moe.source<"c.q" in "" : tensor<40x64xi8>> by
       #moe.source<"c.s" in "" : tensor<40x1xbf16>> group = 64>)",
    R"(#moe.dequantize<#moe.unpack<#moe.source<"z.q" in "" : tensor<24x8xi32>> to i4, size = 64> by
       #moe.source<"z.s" in "" : tensor<24x2xf16>>
       minus #moe.unpack<#moe.source<"z.z" in "" : tensor<24x1xi32>> to i4, size = 2>
       group = 32, origin = 1>)",
    R"(#moe.dequantize<#moe.unpack<#moe.source<"p.q" in "" : tensor<24x16xi32>> to ui8, size = 64> by
       #moe.source<"p.s" in "" : tensor<24x4xf32>> group = 16, origin = 128>)",
    "", // mxfp4, see leaf()
    R"(#moe.dequantize<
         #moe.dequantize<#moe.unpack<#moe.source<"n.q" in "" : tensor<32x32xui8>> to f4E2M1FN,
                                     size = 64> by #moe.source<"n.s" in "" : tensor<32x4xf8E4M3FN>>
                         group = 16>
         by #moe.repeat<#moe.reciprocal<#moe.source<"n.g" in "" : tensor<1x1xf32>>>, axis = 0,
                        times = 32, size = 32> group = 64>)",
    R"(#moe.quantize<#moe.stack<"x.{}" x 2 in [""] : tensor<2x40x64xbf16>> to
       "f8e4m3:block16x16">)",
    R"(#moe.quantize<#moe.source<"t" in "" : tensor<24x64xf32>> to "f8e4m3:tensor">)",
    R"(#moe.quantize<#moe.source<"c" in "" : tensor<24x64xf16>> to "i8:channel">)",
    R"(#moe.quantize<#moe.stack<"z.{}" x 3 in [""] : tensor<3x16x64xbf16>> to "i4:group32">)",
    R"(#moe.quantize<#moe.source<"m" in "" : tensor<24x64xbf16>> to "mxfp4">)",
    R"(#moe.quantize<#moe.source<"n" in "" : tensor<24x64xbf16>> to "nvfp4">)",
};

class QuantizedWeightsTest : public testing::Test {
protected:
  QuantizedWeightsTest() : builder(&context) { context.loadDialect<moe::MoeDialect>(); }

  TypedAttr parse(const std::string &text) {
    Attribute attr = parseAttribute(text, &context);
    EXPECT_TRUE(attr) << text;
    return dyn_cast_or_null<TypedAttr>(attr);
  }
  TypedAttr leaf(size_t i) {
    if (i != 5)
      return parse(kLeaves[i]);
    // One power of two per row and group, as a constant: random exponents would overflow.
    TypedAttr scales = parse(R"(#moe.repeat<#moe.repeat<dense<[[[0.5, 4.0]], [[1.0, 2.0]],
      [[0.25, 8.0]]]> : tensor<3x1x2xf8E8M0FNU>, axis = 1, times = 16, size = 16>, axis = 0,
      times = 1, size = 3>)");
    TypedAttr codes =
        parse(R"(#moe.unpack<#moe.source<"m.q" in "" : tensor<3x16x32xui8>> to f4E2M1FN,
                               size = 64>)");
    return moe::DequantizeAttr::get(&context, codes, scales, TypedAttr(), 32, 0);
  }
  std::string formatOf(TypedAttr expr) {
    auto parts = splitQuantized(expr);
    return parts ? parts->format : "";
  }

  /// The numbers that the parts stand for.
  std::vector<float> join(const QuantizedParts &parts) {
    std::vector<float> codes = naiveValues(parts.codes, none), zeros, rowScales;
    std::vector<float> scales = naiveValues(parts.scales, none);
    if (parts.zeros)
      zeros = naiveValues(parts.zeros, none);
    if (parts.rowScales)
      rowScales = naiveValues(parts.rowScales, none);
    size_t columns = size_t(moe::getWeightType(parts.codes).getShape().back());
    size_t group = size_t(parts.group), groups = (columns + group - 1) / group;
    EXPECT_EQ(scales.size(), codes.size() / columns * groups);
    for (size_t i = 0; i < codes.size(); ++i) {
      size_t row = i / columns, scale = row * groups + i % columns / group;
      float zero = float(parts.origin) + (zeros.empty() ? 0.0f : zeros[scale]);
      codes[i] = (codes[i] - zero) * scales[scale] * (rowScales.empty() ? 1.0f : rowScales[row]);
    }
    return codes;
  }

  TypedAttr slice(TypedAttr expr, int64_t axis, int64_t begin, int64_t size, int64_t stride = 1) {
    return moe::SliceAttr::get(&context, expr, axis, begin, size, stride);
  }
  TypedAttr reshape(TypedAttr expr, ArrayRef<int64_t> shape) {
    return moe::ReshapeAttr::get(&context, expr, moe::getWeightType(expr).clone(shape));
  }
  TypedAttr transpose(TypedAttr expr, ArrayRef<int64_t> permutation) {
    return moe::TransposeAttr::get(&context, expr, builder.getDenseI64ArrayAttr(permutation));
  }
  TypedAttr concat(int64_t axis, ArrayRef<TypedAttr> parts) {
    return moe::ConcatAttr::get(&context, axis, parts);
  }
  TypedAttr randomNode(TypedAttr operand, std::mt19937 &random);

  TinyCheckpoint none;
  MLIRContext context;
  Builder builder;
};

TypedAttr QuantizedWeightsTest::randomNode(TypedAttr operand, std::mt19937 &random) {
  auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
  ArrayRef<int64_t> shape = moe::getWeightType(operand).getShape();
  int64_t rank = int64_t(shape.size()), axis = below(rank);
  switch (below(5)) {
  case 0: { // mostly along borders of 8
    int64_t step = shape[axis] % 8 == 0 && below(4) ? 8 : 1;
    int64_t begin = below(shape[axis] / step) * step;
    int64_t size = (1 + below((shape[axis] - begin) / step)) * step;
    return slice(operand, axis, begin, size);
  }
  case 1: {
    int64_t stride = 2, size = (shape[axis] + 1) / 2;
    return slice(operand, axis, 0, size, stride);
  }
  case 2: {
    SmallVector<TypedAttr> parts = {operand, operand};
    int64_t begin = below(shape[axis]);
    parts.push_back(slice(operand, axis, begin, 1 + below(shape[axis] - begin)));
    return concat(axis, parts);
  }
  case 3: {
    SmallVector<int64_t> permutation(shape.size());
    std::iota(permutation.begin(), permutation.end(), 0);
    std::shuffle(permutation.begin(), permutation.end() - below(2), random);
    return transpose(operand, permutation);
  }
  default: {
    SmallVector<int64_t> to(shape);
    int64_t part = shape[rank - 2] % 8 == 0 && below(2) ? 8 : 1;
    if (rank == 3 && below(2)) {
      to = {shape[0] * shape[1], shape[2]};
    } else {
      to[rank - 2] /= part;
      to.insert(to.end() - 1, part);
    }
    return reshape(operand, to);
  }
  }
}

TEST_F(QuantizedWeightsTest, EveryFormatIsRecognised) {
  const char *const formats[] = {"f8e4m3:group16", "f8e4m3:channel", "i8:channel", "i4:group32",
                                 "i8:group16",     "mxfp4",          "nvfp4",      "f8e4m3:group16",
                                 "f8e4m3:channel", "i8:channel",     "i4:group32", "mxfp4",
                                 "nvfp4"};
  for (auto [i, format] : llvm::enumerate(formats)) {
    EXPECT_EQ(formatOf(leaf(i)), format);
    EXPECT_TRUE(isQuantized(leaf(i)));
  }
  TypedAttr plain = parse(R"(#moe.source<"x" in "" : tensor<4x8xbf16>>)");
  EXPECT_FALSE(isQuantized(plain));
  EXPECT_EQ(formatOf(plain), "");
  // A conversion asks for numbers.
  EXPECT_EQ(formatOf(moe::ConvertAttr::get(&context, leaf(0), builder.getF32Type())), "");
  EXPECT_EQ(formatOf(reshape(leaf(1), {48 * 64})), "");
}

TEST_F(QuantizedWeightsTest, RandomRearrangementsKeepTheNumbers) {
  std::mt19937 random(11);
  int split = 0;
  for (int i = 0; i < 300 && !HasFailure(); ++i) {
    TypedAttr expr = leaf(random() % std::size(kLeaves));
    for (unsigned depth = random() % 5; depth > 0; --depth)
      if (moe::getWeightType(expr).getNumElements() < 20000)
        expr = randomNode(expr, random);
    std::optional<QuantizedParts> parts = splitQuantized(expr);
    if (!parts)
      continue;
    ++split;
    std::string text;
    llvm::raw_string_ostream(text) << expr;
    std::vector<float> expected = naiveValues(expr, none), joined = join(*parts);
    ASSERT_EQ(joined.size(), expected.size()) << text;
    for (size_t k = 0; k < joined.size(); ++k)
      ASSERT_NEAR(joined[k], expected[k], 1e-5f * std::abs(expected[k])) << k << " of " << text;
  }
  EXPECT_GT(split, 100);
}

TEST_F(QuantizedWeightsTest, ExpertsGateAndUp) {
  TypedAttr expert = leaf(0); // [2, 48, 64]
  TypedAttr gate = reshape(expert, {2, 1, 48, 64});
  TypedAttr placed = moe::TakeAttr::get(&context, concat(1, {gate, gate}),
                                        builder.getDenseI64ArrayAttr({1, -1, 0, 1}));
  EXPECT_EQ(formatOf(placed), "f8e4m3:group16");
  EXPECT_EQ(join(*splitQuantized(placed)), naiveValues(placed, none));
}

TEST_F(QuantizedWeightsTest, ScalesOfATensorAndOfRowsAreJoinedByRows) {
  TypedAttr joined = concat(0, {leaf(1), slice(leaf(1), 0, 3, 5)});
  EXPECT_EQ(formatOf(joined), "f8e4m3:channel");
  TypedAttr blocks = slice(reshape(leaf(0), {96, 64}), 0, 0, 20);
  TypedAttr mixed = concat(0, {joined, blocks}); // one per row, and groups of 16
  EXPECT_EQ(formatOf(mixed), "f8e4m3:group16");
  EXPECT_EQ(join(*splitQuantized(mixed)), naiveValues(mixed, none));
}

TEST_F(QuantizedWeightsTest, SharesOfWeightsAreSlicesOfTheWhole) {
  Checkpoint checkpoint = Checkpoint::empty();
  auto evaluated = [&](TypedAttr expr) {
    auto evaluator = WeightEvaluator::create(expr, checkpoint);
    EXPECT_TRUE(evaluator.isOk()) << evaluator.status().toString();
    std::vector<std::byte> bytes(size_t(evaluator->numElements() * evaluator->elementBytes()));
    EXPECT_TRUE(evaluator->read(0, evaluator->numElements(), bytes.data()).isOk());
    return toFloats(evaluator->dtype(), bytes.data(), size_t(evaluator->numElements()));
  };
  for (size_t i = 0; i < std::size(kLeaves); ++i) {
    TypedAttr whole = leaf(i);
    SCOPED_TRACE(formatOf(whole));
    int64_t rank = moe::getWeightType(whole).getRank();
    for (auto [axis, begin, size] : {std::tuple(rank - 2, int64_t(5), int64_t(7)),
                                     std::tuple(rank - 1, int64_t(32), int64_t(32))}) {
      TypedAttr share = slice(whole, axis, begin, size);
      std::optional<QuantizedParts> parts = splitQuantized(share);
      ASSERT_TRUE(parts);
      std::vector<float> joined = join(*parts);
      std::vector<float> expected = naiveValues(share, none);
      ASSERT_EQ(joined.size(), expected.size());
      for (size_t k = 0; k < joined.size(); ++k)
        ASSERT_NEAR(joined[k], expected[k], 1e-6f * std::abs(expected[k])) << k;
      for (TypedAttr part : {parts->codes, parts->scales, parts->zeros, parts->rowScales}) {
        if (part) {
          EXPECT_EQ(evaluated(part), naiveValues(part, none));
        }
      }
    }
  }
}

TEST_F(QuantizedWeightsTest, SharesThatCutGroupsHaveNoCodes) {
  for (size_t i : {0, 3, 7, 10, 11, 12}) {
    int64_t rank = moe::getWeightType(leaf(i)).getRank();
    EXPECT_EQ(formatOf(slice(leaf(i), rank - 1, 8, 40)), "") << i;
    // Rows may be cut anywhere, and so may columns of what has one scale per row.
    EXPECT_NE(formatOf(slice(leaf(i), rank - 2, 3, 5)), "") << i;
  }
  EXPECT_EQ(formatOf(slice(leaf(9), 1, 8, 40)), "i8:channel");
}

TEST_F(QuantizedWeightsTest, FactorsOfRowsCancelInTheOtherMatrix) {
  Checkpoint checkpoint = Checkpoint::empty();
  TypedAttr factors = parse(R"(#moe.quantize<#moe.stack<"u.{}" x 2 in [""] : tensor<2x24x64xbf16>>
                               to "mxfp4", part = row_scales>)");
  auto evaluator = WeightEvaluator::create(factors, checkpoint);
  ASSERT_TRUE(evaluator.isOk());
  std::vector<float> values(48);
  ASSERT_TRUE(evaluator->read(5, 40, reinterpret_cast<std::byte *>(values.data() + 5)).isOk());
  std::vector<float> expected = naiveValues(factors, none);
  for (size_t i = 5; i < 45; ++i)
    EXPECT_EQ(values[i], expected[i]);
}

TEST_F(QuantizedWeightsTest, WhatCannotStayPackedIsNumbers) {
  EXPECT_EQ(formatOf(concat(0, {leaf(1), leaf(2)})), "") << "different codes";
  TypedAttr floats = moe::ConvertAttr::get(
      &context, parse(R"(#moe.source<"x" in "" : tensor<4x64xbf16>>)"), builder.getF32Type());
  EXPECT_EQ(formatOf(concat(0, {leaf(1), floats})), "") << "codes and numbers";
  EXPECT_EQ(formatOf(slice(leaf(3), 1, 16, 32)), "") << "a slice across groups";
  EXPECT_EQ(formatOf(slice(leaf(3), 1, 32, 32)), "i4:channel") << "a slice of one group";
  EXPECT_EQ(formatOf(transpose(leaf(2), {1, 0})), "") << "scales along the columns";
}

TEST_F(QuantizedWeightsTest, HeadsOfLatentAttention) {
  // kv_b is [heads * (nope + value), latent]; its key part is applied transposed. Blocks of 16 x 16
  // and one scale per tensor allow that, heads of 24 rows cut the blocks.
  for (auto [weight, nope, format] : {std::tuple(reshape(leaf(0), {96, 64}), 32, "f8e4m3:group16"),
                                      std::tuple(slice(leaf(1), 0, 0, 48), 16, "f8e4m3:channel")}) {
    int64_t heads = moe::getWeightType(weight).getDimSize(0) / 48;
    TypedAttr split = reshape(weight, {heads, 48, 64});
    TypedAttr keys = transpose(slice(split, 1, 0, nope), {0, 2, 1});
    EXPECT_EQ(formatOf(keys), format);
    EXPECT_EQ(join(*splitQuantized(keys)), naiveValues(keys, none));
  }
  TypedAttr cut = slice(reshape(leaf(0), {4, 24, 64}), 1, 0, 24);
  EXPECT_EQ(formatOf(cut), "f8e4m3:group16");
  EXPECT_EQ(formatOf(transpose(cut, {0, 2, 1})), "");
}

TEST_F(QuantizedWeightsTest, PackedAndUnpacked) {
  Checkpoint checkpoint = Checkpoint::empty();
  for (size_t i = 0; i < std::size(kLeaves); ++i) {
    if (i == 6)
      continue; // made-up codes of scales are negative, which nvfp4 does not store
    TypedAttr expr = leaf(i);
    std::optional<QuantizedParts> parts = splitQuantized(expr);
    ASSERT_TRUE(parts);
    SCOPED_TRACE(parts->format);
    auto packer = WeightPacker::create("w", *parts, checkpoint, "panel16");
    ASSERT_TRUE(packer.isOk()) << packer.status().toString();
    std::vector<std::byte> packed, piece;
    for (const WeightPacker::Piece &place : packer->pieces()) {
      Status status = packer->pack(place, piece);
      ASSERT_TRUE(status.isOk()) << status.toString();
      packed.insert(packed.end(), piece.begin(), piece.end());
    }
    ASSERT_EQ(packed.size(), packer->totalBytes());
    ArrayRef<int64_t> shape = moe::getWeightType(expr).getShape();
    int64_t n = shape[shape.size() - 2], k = shape.back(), blobs = shape.size() > 2 ? shape[0] : 1;
    auto layout =
        quant::PackedLayout::create("panel16", *quant::parsePackable(parts->format), n, k, blobs);
    ASSERT_TRUE(layout.isOk());
    std::vector<float> expected = naiveValues(expr, none), values(size_t(n * k));
    for (int64_t blob = 0; blob < blobs; ++blob) {
      ASSERT_TRUE(
          layout
              ->unpack(quant::PanelRole::kOnly,
                       std::span(packed).subspan(blob * layout->blobBytes(), layout->blobBytes()),
                       values)
              .isOk());
      for (size_t j = 0; j < values.size(); ++j)
        ASSERT_FLOAT_EQ(values[j], expected[size_t(blob * n * k) + j]);
    }
  }
}

TEST_F(QuantizedWeightsTest, GateAndUpPacked) {
  Checkpoint checkpoint = Checkpoint::empty();
  TypedAttr gate = leaf(3), up = transpose(leaf(3), {0, 1}), one = reshape(gate, {1, 24, 64});
  TypedAttr both = concat(0, {one, reshape(up, {1, 24, 64})});
  auto packer = WeightPacker::create("w", *splitQuantized(both), checkpoint, "gate_up_panel16");
  ASSERT_TRUE(packer.isOk()) << packer.status().toString();
  std::vector<std::byte> packed;
  ASSERT_EQ(packer->pieces().size(), 1u);
  ASSERT_TRUE(packer->pack(packer->pieces()[0], packed).isOk());
  auto layout =
      quant::PackedLayout::create("gate_up_panel16", *quant::parsePackable("i4:group32"), 24, 64);
  std::vector<float> expected = naiveValues(gate, none), values(expected.size());
  for (quant::PanelRole role : {quant::PanelRole::kGate, quant::PanelRole::kUp}) {
    ASSERT_TRUE(layout->unpack(role, packed, values).isOk());
    for (size_t j = 0; j < values.size(); ++j)
      ASSERT_FLOAT_EQ(values[j], expected[j]);
  }
  auto refused = WeightPacker::create("w", *splitQuantized(gate), checkpoint, "gate_up_panel16");
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
}

} // namespace
