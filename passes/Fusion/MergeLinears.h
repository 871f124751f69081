//===- MergeLinears.h - Several products of one input as one ------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Fusions that turn neighbouring projections into one kernel stack their weights, and their biases
// where any has one.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_FUSION_MERGELINEARS_H
#define SLUICE_PASSES_FUSION_MERGELINEARS_H

#include "passes/Analysis/WeightSymbols.h"

namespace sluice {

struct MergedLinears {
  mlir::FlatSymbolRefAttr weight;
  mlir::FlatSymbolRefAttr bias; ///< null when no part has one
};

/// Defines the weight [sum of rows, width of x] named `leaf` beside that of the first of `linears`,
/// and the bias `leaf`_bias; a part without one contributes zeros.
MergedLinears mergeLinears(mlir::ArrayRef<moe::LinearOp> linears, mlir::StringRef leaf,
                           WeightSymbols &weights);

} // namespace sluice

#endif // SLUICE_PASSES_FUSION_MERGELINEARS_H
