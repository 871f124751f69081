//===- WeightSymbols.h - Finding and making weight symbols --------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Passes that merge operations merge their weights too: they build one expression out of several
// and give it a name next to the old ones. This is the one place that does so, so that names stay
// predictable ("layers.0.attn.q" and "layers.0.attn.k" merge into "layers.0.attn.qkv").
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_ANALYSIS_WEIGHTSYMBOLS_H
#define SLUICE_PASSES_ANALYSIS_WEIGHTSYMBOLS_H

#include "dialects/Moe/Moe.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"

namespace sluice {

/// The weights of one module. Not thread-safe; build it once per pass, it stays valid while weights
/// are only added or erased through it.
class WeightSymbols {
public:
  explicit WeightSymbols(mlir::ModuleOp module) : table(module) {}

  /// The weight behind `ref`; null when there is none of that name.
  moe::WeightOp lookup(mlir::FlatSymbolRefAttr ref) const {
    return table.lookup<moe::WeightOp>(ref.getAttr());
  }
  moe::KvCacheOp lookupCache(mlir::FlatSymbolRefAttr ref) const {
    return table.lookup<moe::KvCacheOp>(ref.getAttr());
  }

  /// Adds a weight holding `value` right before `anchor`, named `parent(anchor's name).leaf`; a
  /// number is appended when that name is taken.
  mlir::FlatSymbolRefAttr create(moe::WeightOp anchor, llvm::StringRef leaf, mlir::TypedAttr value);

  /// Expression of `ref`'s weight under a new shape with the same number of elements.
  mlir::TypedAttr reshaped(mlir::FlatSymbolRefAttr ref, llvm::ArrayRef<int64_t> shape) const;
  /// Expression of `ref`'s weight, unchanged.
  mlir::TypedAttr expr(mlir::FlatSymbolRefAttr ref) const { return lookup(ref).getValue(); }
  /// Static shape of `ref`'s weight.
  llvm::ArrayRef<int64_t> shape(mlir::FlatSymbolRefAttr ref) const;

  /// Operands one after the other along `axis`; a single operand stays itself, and what importers
  /// took apart into consecutive slices becomes whole again. Where element
  /// types differ (one is quantised, another is not) the result is f32, which holds all of them.
  static mlir::TypedAttr concat(int64_t axis, llvm::ArrayRef<mlir::TypedAttr> operands);

  /// The operand, or zeros of the given type when there is none (a missing bias beside present
  /// ones).
  static mlir::TypedAttr orZeros(mlir::TypedAttr operand, mlir::RankedTensorType type);

private:
  mlir::SymbolTable table;
};

} // namespace sluice

#endif // SLUICE_PASSES_ANALYSIS_WEIGHTSYMBOLS_H
