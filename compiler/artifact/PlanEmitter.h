//===- PlanEmitter.h - From the plan dialect to plan.pb -----------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The operations of a packed module map one-to-one to the records of the plan; nothing is decided
// here.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_PLANEMITTER_H
#define SLUICE_COMPILER_ARTIFACT_PLANEMITTER_H

#include "runtime/artifact/plan.pb.h"
#include "sluice/status.h"

#include "mlir/IR/BuiltinOps.h"

namespace sluice {

/// The plan of a module at phase `planned`, without version and weights files, which the writer
/// adds. kInvalidArgument when the module has not reached that phase; kUnsupported for operations
/// that this version of the plan has no record for.
Result<proto::Plan> buildPlan(mlir::ModuleOp module);

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_PLANEMITTER_H
