//===- ModelTableReader.h - A model's table from its module -------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The only part of planning that sees MLIR. The fused module says what each weight is for (which
// operation reads it, and how that operation splits); the packed program of one rank made from it
// says what is stored: layouts, formats and bytes. Together they are a table on which every other
// number of ranks is arithmetic.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_MODELTABLEREADER_H
#define SLUICE_COMPILER_PLANNER_MODELTABLEREADER_H

#include "compiler/planner/ModelTable.h"
#include "compiler/planner/RankMemory.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

namespace sluice::planner {

/// What a weight of a fused module is for.
struct WeightUse {
  WeightRole role = WeightRole::kTables;
  Sharding sharding = Sharding::kWhole;
};

/// What is known of a model before it is lowered.
struct FusedFacts {
  llvm::StringMap<WeightUse> uses; ///< by the symbol of the moe.weight
  std::vector<TableLayer> layers;  ///< without launches
};

/// Reads a module at phase `fused` that was placed on one rank.
FusedFacts readFused(mlir::ModuleOp fused);

/// The table of a module at phase `planned` with one rank, made from the module that `facts` are
/// of.
ModelTable readModelTable(mlir::ModuleOp planned, const FusedFacts &facts);

/// The placement of a module at phase `placed`, [MoE layers][groups][slots]: see
/// RoutingStats::placement.
std::vector<std::vector<std::vector<int64_t>>> readPlacement(mlir::ModuleOp placed);

/// The slabs that the packed ranks of a module declare, in the order of ranks. Slabs and weights of
/// `memory` become those of the rank with the most bytes. `facts` are of the module before it was
/// lowered.
std::vector<RankSlabs> readSlabs(mlir::ModuleOp planned, const FusedFacts &facts,
                                 RankMemory &memory);

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_MODELTABLEREADER_H
