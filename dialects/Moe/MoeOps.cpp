//===- MoeOps.cpp - Operations of `moe` -------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The generated definitions. `moe.weight` shows its expression without the trailing type of typed
// attributes, because its own signature already states it, and numbers in keyword positions print
// as the shortest decimal that reads back (eps 1.0e-06).
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

using namespace mlir;

namespace sluice::moe {

static void printWeightExpr(OpAsmPrinter &printer, Operation *, TypedAttr expr) {
  printWeightExpr(printer, expr);
}

static ParseResult parseReal(OpAsmParser &parser, FloatAttr &attr) {
  double value;
  if (parser.parseFloat(value))
    return failure();
  attr = parser.getBuilder().getF64FloatAttr(value);
  return success();
}

static void printReal(OpAsmPrinter &printer, Operation *, FloatAttr attr) {
  printReal(printer, attr.getValueAsDouble());
}

static ParseResult parseNormKind(OpAsmParser &parser, NormKindAttr &attr) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  std::optional<NormKind> kind = symbolizeNormKind(word);
  if (!kind)
    return parser.emitError(loc, "'") << word << "' is not a norm, expected rms, layer or l2";
  attr = NormKindAttr::get(parser.getContext(), *kind);
  return success();
}

static void printNormKind(OpAsmPrinter &printer, Operation *, NormKindAttr attr) {
  printer << stringifyNormKind(attr.getValue());
}

} // namespace sluice::moe

#define GET_OP_CLASSES
#include "dialects/Moe/MoeOps.cpp.inc"
