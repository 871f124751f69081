//===- WeightSymbols.cpp - Finding and making weight symbols ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace sluice {

FlatSymbolRefAttr WeightSymbols::create(moe::WeightOp anchor, StringRef leaf, TypedAttr value) {
  StringRef parent = anchor.getSymName().rsplit('.').first;
  std::string name = parent == anchor.getSymName() ? leaf.str() : (parent + "." + leaf).str();
  OpBuilder builder(anchor);
  auto op = moe::WeightOp::create(builder, anchor.getLoc(), name,
                                  cast<RankedTensorType>(value.getType()), value);
  return FlatSymbolRefAttr::get(table.insert(op));
}

ArrayRef<int64_t> WeightSymbols::shape(FlatSymbolRefAttr ref) const {
  return cast<RankedTensorType>(lookup(ref).getType()).getShape();
}

TypedAttr WeightSymbols::reshaped(FlatSymbolRefAttr ref, ArrayRef<int64_t> shape) const {
  TypedAttr operand = expr(ref);
  auto type = cast<RankedTensorType>(operand.getType());
  return cast<TypedAttr>(
      Attribute(moe::ReshapeAttr::get(operand.getContext(), operand, type.clone(shape))));
}

/// The expression whose consecutive slices the operands are, none left over; else null.
static TypedAttr joinSlices(int64_t axis, ArrayRef<TypedAttr> operands) {
  TypedAttr whole;
  int64_t end = 0;
  for (TypedAttr operand : operands) {
    auto slice = dyn_cast<moe::SliceAttr>(Attribute(operand));
    if (!slice || slice.getAxis() != axis || slice.getStride() != 1 || slice.getBegin() != end ||
        (whole && slice.getOperand() != whole))
      return {};
    whole = slice.getOperand();
    end += slice.getSize();
  }
  return end == moe::getWeightType(whole).getDimSize(axis) ? whole : TypedAttr();
}

TypedAttr WeightSymbols::concat(int64_t axis, ArrayRef<TypedAttr> operands) {
  if (operands.size() == 1)
    return operands.front();
  if (TypedAttr whole = joinSlices(axis, operands))
    return whole;
  MLIRContext *context = operands.front().getContext();
  auto elementOf = [](TypedAttr operand) { return moe::getWeightType(operand).getElementType(); };
  Type element = elementOf(operands.front());
  SmallVector<TypedAttr> alike(operands);
  if (llvm::any_of(operands, [&](TypedAttr part) { return elementOf(part) != element; }))
    for (TypedAttr &part : alike)
      if (Type wide = Float32Type::get(context); elementOf(part) != wide)
        part = cast<TypedAttr>(Attribute(moe::ConvertAttr::get(context, part, wide)));
  return cast<TypedAttr>(Attribute(moe::ConcatAttr::get(context, axis, alike)));
}

TypedAttr WeightSymbols::orZeros(TypedAttr operand, RankedTensorType type) {
  if (operand)
    return operand;
  Builder builder(type.getContext());
  return DenseElementsAttr::get(type, builder.getZeroAttr(type.getElementType()));
}

} // namespace sluice
