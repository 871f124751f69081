//===- Plan.h - Planning a model without its weights --------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The same decisions that a compilation makes, from a checkpoint's headers or only its config.json:
// what sluice-plan runs, and what sluice-compile asks before it reads a weight.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_DRIVER_PLAN_H
#define SLUICE_COMPILER_DRIVER_PLAN_H

#include "compiler/driver/Compile.h"
#include "compiler/planner/PlanReport.h"

#include <string>
#include <vector>

namespace sluice {

/// What to plan for, beside the model, its limits and its formats (CompileOptions).
struct PlanOptions {
  planner::PlanRequest request;
  std::string targetFile;  ///< a description instead of a target of this build
  std::string calibration; ///< measured constants that replace those of the target
};

/// Plans `options.model` and fills `report`, also when the model does not fit: that is
/// kResourceExhausted, and every other error leaves the report unusable. The number of ranks and
/// how they share the model are those of plan.request, not those of `options`; so is an empty
/// kvType the one that suits the target. No weight is read and nothing is written.
Status planModel(const CompileOptions &options, const PlanOptions &plan, const CompileHooks &hooks,
                 planner::PlanReport &report);

/// The target that a compilation or planning asks for, calibrated.
Result<Target> resolveTarget(const std::string &name, const PlanOptions &plan);

} // namespace sluice

#endif // SLUICE_COMPILER_DRIVER_PLAN_H
