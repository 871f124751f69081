//===- MoeQuantize.cpp - Weights that the compiler quantises ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The shapes of what #moe.quantize yields follow from the format alone, because scales are values
// that nobody knows before the weight is written. Constraints are numbered as in MoeAttrs.td.
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

#include "runtime/quant/WeightFormat.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace sluice::moe {

using quant::ElementType;
using quant::ScaleScope;
using quant::ScaleType;

/// The verifier has parsed it before.
static quant::WeightFormat formatOf(QuantizeAttr attr) {
  return *quant::WeightFormat::parse(attr.getFormat().getValue().str());
}

LogicalResult QuantizeAttr::verify(function_ref<InFlightDiagnostic()> emitError, TypedAttr operand,
                                   StringAttr formatName, QuantizePart part) {
  auto fail = [&](int constraint) { return emitError() << "moe.quantize C" << constraint << ": "; };
  if (!operand || !isWeightExpr(operand))
    return fail(1) << "operand " << operand << " is not a weight expression";
  RankedTensorType type = getWeightType(operand);
  if (type.getRank() < 2 || !isa<Float32Type, BFloat16Type, Float16Type>(type.getElementType()))
    return fail(2) << "numbers of type " << type << " are not a matrix of f32, bf16 or f16";
  auto format = quant::WeightFormat::parse(formatName.getValue().str());
  if (!format.isOk())
    return fail(3) << format.status().message();
  if (!format->isQuantized())
    return fail(3) << "\"" << formatName.getValue() << "\" is no quantised format";
  if (format->scope == ScaleScope::kGroup) {
    if (Status packable = quant::requirePackable(*format); !packable.isOk())
      return fail(3) << packable.message();
    int64_t columns = type.getShape().back(), group = format->blockCols;
    if (columns % group != 0)
      return fail(4) << "rows of " << columns << " columns are not whole groups of " << group
                     << ", which " << formatName << " scales together";
  }
  if ((part == QuantizePart::Zeros && !format->zeroPoint) ||
      (part == QuantizePart::RowScales && !format->hasRowScale() &&
       format->scale != ScaleType::kE8M0))
    return fail(5) << formatName << " has no " << stringifyQuantizePart(part);
  return success();
}

int64_t QuantizeAttr::getBlockRows() const {
  quant::WeightFormat format = formatOf(*this);
  ArrayRef<int64_t> shape = getWeightType(getOperand()).getShape();
  int64_t rows = shape[shape.size() - 2];
  if (format.scope == ScaleScope::kTensor)
    return rows;
  return format.scope == ScaleScope::kBlock ? std::min<int64_t>(format.blockRows, rows) : 1;
}

int64_t QuantizeAttr::getBlockColumns() const {
  quant::WeightFormat format = formatOf(*this);
  int64_t columns = getWeightType(getOperand()).getShape().back();
  return format.blockCols > 0 ? std::min<int64_t>(format.blockCols, columns) : columns;
}

TypedAttr QuantizeAttr::withPart(QuantizePart part) const {
  return cast<TypedAttr>(Attribute(get(getContext(), getOperand(), getFormat(), part)));
}

Type QuantizeAttr::getType() const {
  MLIRContext *context = getContext();
  quant::WeightFormat format = formatOf(*this);
  RankedTensorType numbers = getWeightType(getOperand());
  SmallVector<int64_t> grid(numbers.getShape());
  int64_t &rows = grid[grid.size() - 2], &columns = grid.back();
  switch (getPart()) {
  case QuantizePart::Numbers:
    return numbers.clone(Float32Type::get(context));
  case QuantizePart::Codes:
    switch (format.element) {
    case ElementType::kF8E4M3:
      return numbers.clone(Float8E4M3FNType::get(context));
    case ElementType::kI8:
      return numbers.clone(IntegerType::get(context, 8));
    case ElementType::kI4:
      return numbers.clone(IntegerType::get(context, 4));
    default:
      return numbers.clone(Float4E2M1FNType::get(context));
    }
  case QuantizePart::RowScales:
    columns = 1;
    return numbers.clone(grid, Float32Type::get(context));
  case QuantizePart::Scales:
  case QuantizePart::Zeros:
    break;
  }
  rows = llvm::divideCeil(rows, getBlockRows());
  columns = llvm::divideCeil(columns, getBlockColumns());
  if (getPart() == QuantizePart::Zeros)
    return numbers.clone(grid, IntegerType::get(context, 4));
  Type scale = format.scale == ScaleType::kE8M0   ? Type(Float8E8M0FNUType::get(context))
               : format.scale == ScaleType::kE4M3 ? Type(Float8E4M3FNType::get(context))
                                                  : Type(Float32Type::get(context));
  return numbers.clone(grid, scale);
}

SmallVector<TypedAttr> QuantizeAttr::getOperandExprs() const { return {getOperand()}; }

} // namespace sluice::moe
