//===- PlanPhase.h - Planning in the middle of a compilation ------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Planning needs the phases and the phases need what was planned. The driver hands in the module
// once its formats are chosen, and a way to lower copies of it.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_DRIVER_PLANPHASE_H
#define SLUICE_COMPILER_DRIVER_PLANPHASE_H

#include "compiler/driver/Plan.h"
#include "passes/Verify/Phases.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace sluice {

/// Runs the phases from `first` to `last` on a module, under the given options.
using PhaseRunner = llvm::function_ref<mlir::LogicalResult(
    mlir::ModuleOp module, Phase first, Phase last, const CompileOptions &options)>;

/// Plans a module at phase `quantized`, which stays as it is. Fills `report` and returns ok also
/// when the model does not fit (planner::refusalOf says so); failures are diagnostics or statuses.
Status planQuantized(mlir::ModuleOp quantized, const CompileOptions &options,
                     const PlanOptions &plan, PhaseRunner run, planner::PlanReport &report);

} // namespace sluice

#endif // SLUICE_COMPILER_DRIVER_PLANPHASE_H
