//===- WeightExprTest.cpp - Weight expressions built in C++ -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What the text of a module cannot reach: constraints that the parser already enforces, the
// interface that tools walk expressions with, and the uniquing of parameters.
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace sluice::moe;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

class WeightExprTest : public testing::Test {
protected:
  WeightExprTest() : builder(&context) {
    context.loadDialect<MoeDialect>();
    context.getDiagEngine().registerHandler([this](Diagnostic &diag) { message = diag.str(); });
  }

  function_ref<InFlightDiagnostic()> emitError() { return emit; }

  RankedTensorType tensor(ArrayRef<int64_t> shape) {
    return RankedTensorType::get(shape, builder.getF32Type());
  }

  TypedAttr source(StringRef key, ArrayRef<int64_t> shape) {
    return SourceAttr::get(&context, builder.getStringAttr(key), builder.getStringAttr("m"),
                           tensor(shape));
  }

  MLIRContext context;
  Builder builder;
  std::string message;
  std::function<InFlightDiagnostic()> emit = [this] {
    return mlir::emitError(UnknownLoc::get(&context));
  };
};

// getChecked() has a catch-all overload beside the one with the parameters' exact types, hence the
// spelled-out types of the arguments.
TEST_F(WeightExprTest, OperandsMustBeWeightExpressions) {
  TypedAttr number = builder.getI64IntegerAttr(4);
  SmallVector<TypedAttr> operands = {source("a", {2}), number};
  auto one = builder.getDenseI64ArrayAttr({0});
  int64_t zero = 0, size = 1, stride = 1;
  Type half = builder.getF16Type();
  EXPECT_FALSE(SliceAttr::getChecked(emitError(), &context, number, zero, zero, size, stride));
  EXPECT_THAT(message, HasSubstr("moe.slice C1: operand 4 : i64 is not a weight expression"));
  StringAttr format = builder.getStringAttr("mxfp4");
  QuantizePart part = QuantizePart::Numbers;
  EXPECT_FALSE(QuantizeAttr::getChecked(emitError(), &context, number, format, part));
  EXPECT_THAT(message, HasSubstr("moe.quantize C1: operand 4 : i64 is not a weight expression"));
  EXPECT_FALSE(TakeAttr::getChecked(emitError(), &context, number, one));
  EXPECT_THAT(message, HasSubstr("moe.take C1: operand"));
  EXPECT_FALSE(ConcatAttr::getChecked(emitError(), &context, zero, ArrayRef(operands)));
  EXPECT_THAT(message, HasSubstr("moe.concat C1: operand"));
  EXPECT_FALSE(TransposeAttr::getChecked(emitError(), &context, number, one));
  EXPECT_THAT(message, HasSubstr("moe.transpose C1: operand"));
  EXPECT_FALSE(ReshapeAttr::getChecked(emitError(), &context, number, tensor({1})));
  EXPECT_THAT(message, HasSubstr("moe.reshape C1: operand"));
  EXPECT_FALSE(ConvertAttr::getChecked(emitError(), &context, number, half));
  EXPECT_THAT(message, HasSubstr("moe.convert C1: operand"));
}

TEST_F(WeightExprTest, ConcatNeedsAnOperand) {
  int64_t axis = 0;
  EXPECT_FALSE(ConcatAttr::getChecked(emitError(), &context, axis, ArrayRef<TypedAttr>()));
  EXPECT_THAT(message, HasSubstr("moe.concat C2: there is no operand"));
}

TEST_F(WeightExprTest, ShapesTooLargeToCountDoNotFit) {
  int64_t huge = int64_t(1) << 40;
  EXPECT_FALSE(ReshapeAttr::getChecked(emitError(), &context, source("a", {huge, huge}),
                                       tensor({huge, huge})));
  EXPECT_THAT(message, HasSubstr("moe.reshape C3"));
}

TEST_F(WeightExprTest, TypesFollowFromOperands) {
  TypedAttr a = source("a", {8, 4}), b = source("b", {2, 4});
  TypedAttr joined = ConcatAttr::get(&context, 0, {a, b});
  EXPECT_THAT(getWeightType(joined).getShape(), ElementsAre(10, 4));
  TypedAttr turned = TransposeAttr::get(&context, joined, builder.getDenseI64ArrayAttr({1, 0}));
  EXPECT_THAT(getWeightType(turned).getShape(), ElementsAre(4, 10));
  TypedAttr rows = SliceAttr::get(&context, turned, 1, 1, 3, 4);
  EXPECT_THAT(getWeightType(rows).getShape(), ElementsAre(4, 3));
  TypedAttr halves = ConvertAttr::get(&context, rows, builder.getBF16Type());
  EXPECT_EQ(getWeightType(halves), RankedTensorType::get({4, 3}, builder.getBF16Type()));
}

TEST_F(WeightExprTest, InterfaceWalksTheOperands) {
  TypedAttr a = source("a", {8, 4});
  TypedAttr zeros = cast<TypedAttr>(DenseElementsAttr::get(tensor({2, 4}), 0.0f));
  auto joined = cast<WeightExprInterface>(TypedAttr(ConcatAttr::get(&context, 0, {a, zeros})));
  EXPECT_THAT(joined.getOperandExprs(), ElementsAre(a, zeros));
  EXPECT_TRUE(cast<WeightExprInterface>(a).getOperandExprs().empty());
  EXPECT_TRUE(isWeightExpr(zeros));
  EXPECT_FALSE(isWeightExpr(Attribute()));
}

TEST_F(WeightExprTest, EqualParametersAreOneAttribute) {
  EXPECT_EQ(source("a", {8, 4}), source("a", {8, 4}));
  auto limited = [&](double limit) {
    return ActivationAttr::get(&context, ActivationKind::SwigluOai, 1.702, limit);
  };
  EXPECT_EQ(limited(7.0), limited(7.0));
  EXPECT_NE(limited(7.0), limited(8.0));
  EXPECT_EQ(limited(0.0), limited(-0.0));
  EXPECT_EQ(limited(7.0).getLimit(), 7.0);
}

} // namespace
