//===- Moe.h - The `moe` dialect --------------------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The one header of the dialect: everything generated from the .td files, in the order in which the
// parts need each other, and the few hand-written types they refer to.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_MOE_MOE_H
#define SLUICE_DIALECTS_MOE_MOE_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributeInterfaces.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/bit.h"

namespace sluice::moe {

/// The memory that all kv caches share as far as side effects are concerned: an append is ordered
/// before the attention that reads it, and neither is dropped or moved across the other.
struct KvCacheResource : mlir::SideEffects::Resource::Base<KvCacheResource> {
  llvm::StringRef getName() final { return "KvCache"; }
};

/// A double as an attribute parameter: equal and hashed by its bits, with -0.0 stored as 0.0.
class Real {
public:
  Real(double value = 0.0) : value(value == 0.0 ? 0.0 : value) {}
  operator double() const { return value; }
  friend bool operator==(Real a, Real b) { return a.bits() == b.bits(); }
  friend llvm::hash_code hash_value(Real real) { return llvm::hash_value(real.bits()); }

private:
  uint64_t bits() const { return llvm::bit_cast<uint64_t>(value); }
  double value;
};

/// The static type of a weight expression: of a `moe` node or of a builtin dense attribute.
mlir::RankedTensorType getWeightType(mlir::TypedAttr expr);

/// Whether `expr` may stand in a weight expression.
bool isWeightExpr(mlir::Attribute expr);

/// Assembly of a weight expression: `moe` nodes without the trailing type of typed attributes,
/// constants with it. Parsing reports an error for any other attribute.
mlir::ParseResult parseWeightExpr(mlir::AsmParser &parser, mlir::TypedAttr &expr);
void printWeightExpr(mlir::AsmPrinter &printer, mlir::TypedAttr expr);

/// Prints the shortest decimal that reads back as `value`, in MLIR's syntax (which wants a point):
/// 0.125, 1.0e-06.
void printReal(mlir::AsmPrinter &printer, double value);

} // namespace sluice::moe

#include "dialects/Moe/MoeDialect.h.inc"
#include "dialects/Moe/MoeEnums.h.inc"
#include "dialects/Moe/MoeInterfaces.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Moe/MoeAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/Moe/MoeTypes.h.inc"

#define GET_OP_CLASSES
#include "dialects/Moe/MoeOps.h.inc"

#endif // SLUICE_DIALECTS_MOE_MOE_H
