//===- WeightPackerTest.cpp - Packing by pieces and threads -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/WeightPacker.h"
#include "test/compiler/artifact/NaiveWeights.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace mlir;
using namespace sluice;
using namespace sluice::test;
using testing::HasSubstr;

namespace {

class WeightPackerTest : public testing::Test {
protected:
  WeightPackerTest() : checkpoint(Checkpoint::empty()) { context.loadDialect<moe::MoeDialect>(); }

  WeightEvaluator evaluator(const std::string &name, const std::string &type) {
    auto expr = dyn_cast_or_null<TypedAttr>(
        parseAttribute("#moe.source<\"" + name + "\" in \"\" : tensor<" + type + ">>", &context));
    EXPECT_TRUE(expr);
    auto result = WeightEvaluator::create(expr, checkpoint);
    EXPECT_TRUE(result.isOk()) << result.status().toString();
    return std::move(*result);
  }
  Result<WeightPacker> packer(const std::string &name, const std::string &type, const char *layout,
                              const char *format) {
    return WeightPacker::create(name, evaluator(name, type), layout, format);
  }
  static std::vector<float> valuesOf(const WeightPacker &packer) {
    const WeightEvaluator &weight = packer.weight();
    std::vector<std::byte> bytes(size_t(weight.numElements() * weight.elementBytes()));
    EXPECT_TRUE(weight.read(0, weight.numElements(), bytes.data()).isOk());
    return toFloats(weight.dtype(), bytes.data(), size_t(weight.numElements()));
  }
  /// The packed bytes of every weight, back to back.
  static std::vector<std::byte> packAll(std::span<const WeightPacker> weights, unsigned threads) {
    std::vector<std::byte> all;
    Status status = packWeights(
        weights, threads, [&](const WeightPacker &, std::span<const std::byte> bytes) -> Status {
          all.insert(all.end(), bytes.begin(), bytes.end());
          return Status::ok();
        });
    EXPECT_TRUE(status.isOk()) << status.toString();
    return all;
  }

  MLIRContext context;
  Checkpoint checkpoint;
};

TEST_F(WeightPackerTest, PiecesMakeUpTheWholeWhateverTheThreads) {
  std::vector<WeightPacker> weights;
  // The first two take several pieces, the third ends in a partial panel in each of its blobs.
  for (auto [name, type, layout, format] : std::initializer_list<std::array<const char *, 4>>{
           {"a", "1500x1000xf32", "panel16", "bf16"},
           {"b", "2x2x333x2000xbf16", "gate_up_panel16", "bf16"},
           {"c", "3x21x40xf16", "panel16", "f32"},
           {"d", "700x1000xbf16", "row_major", "f32"},
           {"e", "17xbf16", "row_major", "bf16"}}) {
    auto result = packer(name, type, layout, format);
    ASSERT_TRUE(result.isOk()) << result.status().toString();
    weights.push_back(std::move(*result));
  }
  EXPECT_GT(weights[0].pieces().size(), 2u);
  EXPECT_GT(weights[1].pieces().size(), 2u);
  std::vector<std::byte> bytes = packAll(weights, 1);
  EXPECT_EQ(packAll(weights, 3), bytes);

  size_t offset = 0;
  for (const WeightPacker &weight : weights) {
    SCOPED_TRACE(weight.name());
    std::vector<float> values = valuesOf(weight);
    std::span<const std::byte> own = std::span(bytes).subspan(offset, weight.totalBytes());
    offset += weight.totalBytes();
    if (weight.isRowMajor()) {
      for (float &value : values)
        value = roundTo(weight.storedType(), value);
      EXPECT_EQ(toFloats(weight.storedType(), own.data(), values.size()), values);
      continue;
    }
    bool paired = weight.name() == "b";
    const char *format = weight.name() == "c" ? "f32" : "bf16";
    const std::vector<int64_t> &shape = weight.weight().shape();
    int64_t n = shape[shape.size() - 2], k = shape.back();
    int64_t blobs = int64_t(values.size()) / (n * k * (paired ? 2 : 1));
    auto layout = quant::PackedLayout::create(paired ? "gate_up_panel16" : "panel16",
                                              *quant::WeightFormat::parse(format), n, k, blobs);
    ASSERT_TRUE(layout.isOk());
    std::vector<quant::PanelRole> roles = {quant::PanelRole::kOnly};
    if (paired)
      roles = {quant::PanelRole::kGate, quant::PanelRole::kUp};
    size_t at = 0;
    for (int64_t blob = 0; blob < blobs; ++blob)
      for (quant::PanelRole role : roles) {
        std::vector<float> expected(values.begin() + int64_t(at),
                                    values.begin() + int64_t(at) + n * k);
        at += size_t(n * k);
        if (weight.name() == "a")
          for (float &value : expected)
            value = roundTo(DataType::kBF16, value);
        std::vector<float> unpacked(size_t(n * k));
        ASSERT_TRUE(
            layout
                ->unpack(role, own.subspan(size_t(blob) * layout->blobBytes(), layout->blobBytes()),
                         unpacked)
                .isOk());
        EXPECT_EQ(unpacked, expected);
      }
  }
  EXPECT_EQ(offset, bytes.size());
}

TEST_F(WeightPackerTest, RefusesWhatDoesNotFit) {
  auto error = [&](const char *type, const char *layout, const char *format) {
    auto result = packer("w", type, layout, format);
    EXPECT_FALSE(result.isOk());
    return result.isOk() ? std::string() : std::string(result.status().message());
  };
  EXPECT_THAT(error("16xf32", "panel16", "f32"), HasSubstr("expected [N, K] or [E, N, K]"));
  EXPECT_THAT(error("3x16x8xf32", "gate_up_panel16", "f32"), HasSubstr("expected [2, N, K]"));
  EXPECT_THAT(error("16x8xf32", "spiral", "f32"), HasSubstr("spiral"));
  EXPECT_THAT(error("16x8xf32", "panel16", "f7"), HasSubstr("f7"));
  EXPECT_THAT(error("16x8xf32", "panel16", "i8:channel"), HasSubstr("i8:channel"));
}

TEST_F(WeightPackerTest, StopsAtTheSinksError) {
  std::vector<WeightPacker> weights;
  auto made = packer("a", "3000x1000xf32", "panel16", "f32");
  ASSERT_TRUE(made.isOk());
  weights.push_back(std::move(*made));
  int calls = 0;
  Status status = packWeights(weights, 2, [&](const WeightPacker &, std::span<const std::byte>) {
    return ++calls == 2 ? ioError("disk full") : Status::ok();
  });
  EXPECT_EQ(status.code(), StatusCode::kIo);
  EXPECT_EQ(calls, 2);
}

} // namespace
