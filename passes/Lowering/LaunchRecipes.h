//===- LaunchRecipes.h - The launches of a step, whatever its size --*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Which kernel runs with which arguments does not depend on the number of tokens; only sizes do. So
// a rank's function is read once into a list of recipes, and every bucket's program is written from
// that list.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_LOWERING_LAUNCHRECIPES_H
#define SLUICE_PASSES_LOWERING_LAUNCHRECIPES_H

#include "dialects/Moe/Moe.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"

#include <string>
#include <variant>
#include <vector>

namespace sluice {

/// What an argument of a launch is.
struct RecipeArg {
  enum Kind { None, Transient, Weight, Cache, Io };
  Kind kind = None;
  unsigned transient = 0;  ///< Transient: index into StepRecipe::transients
  mlir::StringAttr symbol; ///< Weight, Cache, Io: name in the rank
  int64_t offset = 0;      ///< Io: bytes into the buffer
};

/// One launch; arguments in the order of the kernel family.
struct LaunchRecipe {
  mlir::Location loc;
  mlir::FlatSymbolRefAttr kernel;
  abi::FamilyParams params;
  std::vector<RecipeArg> args;
  std::string label;
};

/// One collective over f32 rows of `width` elements: as many of `rows` as a bucket has, of which
/// each participant holds what `counts` says where it is bound.
struct CollectiveRecipe {
  mlir::Location loc;
  plan::CollectiveKind kind;
  RecipeArg source, result, counts;
  abi::RowSet rows;
  int64_t width;
  mlir::DenseI64ArrayAttr ranks;
  std::string label;
};

struct StepRecipe {
  std::vector<std::variant<LaunchRecipe, CollectiveRecipe>> commands; ///< in order
  std::vector<std::string> transients; ///< names, "layers.0.attn.qkv.q"
};

/// The names that all recipes of a module share: kernels and constant weights are added to the
/// module right before `anchor`. Not thread-safe.
struct RecipeContext {
  RecipeContext(mlir::ModuleOp module, mlir::Operation *anchor)
      : module(module), symbols(module), anchor(anchor) {}

  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  mlir::Operation *anchor;
  abi::StepDims largest; ///< of the largest bucket: sizes of what all buckets share
  int64_t maxPosition = 0, maxSeqLen = 0;
  int64_t numExperts = 0; ///< row length of expert_counts
  llvm::DenseMap<mlir::Attribute, mlir::FlatSymbolRefAttr> kernels;
  llvm::StringMap<unsigned> kernelsOfFamily;
  llvm::DenseMap<mlir::Attribute, mlir::FlatSymbolRefAttr> ropeTables;
};

/// Reads the function of a rank, and declares in `rank` the weights, caches and the table of expert
/// counts that it needs. Reports diagnostics for whatever has no kernel.
mlir::FailureOr<StepRecipe> readStep(mlir::func::FuncOp func, plan::RankOp rank,
                                     RecipeContext &context);

} // namespace sluice

#endif // SLUICE_PASSES_LOWERING_LAUNCHRECIPES_H
