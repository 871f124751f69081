//===- MoeOps.cpp - Operations of `moe` -------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The generated definitions. `moe.weight` shows its expression without the trailing type of typed
// attributes, because its own signature already states it.
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

using namespace mlir;

namespace sluice::moe {

static void printWeightExpr(OpAsmPrinter &printer, Operation *, TypedAttr expr) {
  printWeightExpr(printer, expr);
}

} // namespace sluice::moe

#define GET_OP_CLASSES
#include "dialects/Moe/MoeOps.cpp.inc"
