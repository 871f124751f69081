//===- AllDialects.h - The dialects a Sluice module may contain -*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The one table of dialects, for every program that parses .mlir text. Keeping it short keeps the
// start of the tools in the milliseconds.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_ALLDIALECTS_H
#define SLUICE_DIALECTS_ALLDIALECTS_H

#include "dialects/Moe/Moe.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Quant/IR/Quant.h"

namespace sluice {

/// Adds every dialect that may occur in a module of any phase.
inline void registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<moe::MoeDialect, plan::PlanDialect, mlir::func::FuncDialect,
                  mlir::arith::ArithDialect, mlir::quant::QuantDialect>();
}

} // namespace sluice

#endif // SLUICE_DIALECTS_ALLDIALECTS_H
