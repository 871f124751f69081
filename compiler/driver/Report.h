//===- Report.h - What was decided, with the numbers --------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_DRIVER_REPORT_H
#define SLUICE_COMPILER_DRIVER_REPORT_H

#include "runtime/base/Json.h"

#include "mlir/IR/BuiltinOps.h"

namespace sluice {

/// The report of a planned module: model, limits, memory per rank itemised by slab and by kind of
/// weight, and per bucket its launches and how closely the arena is packed. Deterministic: equal
/// modules give equal reports.
json::Value makeReport(mlir::ModuleOp planned);

} // namespace sluice

#endif // SLUICE_COMPILER_DRIVER_REPORT_H
