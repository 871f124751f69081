//===- PlanReport.h - A plan for people and programs --------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The same facts three times: tables for a terminal, JSON for programs (docs/planning.md has the
// schema), and one HTML file with charts. Nothing is computed here that the JSON does not hold: the
// page draws from the JSON that it carries.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_PLANREPORT_H
#define SLUICE_COMPILER_PLANNER_PLANREPORT_H

#include "compiler/planner/ParallelPlanner.h"
#include "runtime/base/Json.h"

#include <string>
#include <vector>

namespace sluice::planner {

/// A measured step of this model beside its prediction.
struct Comparison {
  MeasuredStep step;
  double predicted = 0; ///< seconds
  /// Prediction over measurement, minus one.
  double error() const { return predicted / step.seconds - 1; }
};

/// Everything that was decided.
struct PlanReport {
  ModelTable model;
  Decision decision;
  RoutingStats stats;      ///< with the placement of the chosen shape
  std::string calibration; ///< file that replaced constants; empty without
  /// Of the subject of the decision, when there is one.
  BatchCurve curve;
  std::vector<ContextRow> contexts;
  std::vector<Comparison> comparisons; ///< with the steps that the calibration has of the model
};

/// Predictions for those of the measured steps that are of the model.
std::vector<Comparison> compareSteps(const CostModel &costs, const Target &target,
                                     const std::string &model);

/// Share of a step's load on each expert group relative to the mean, [MoE layers][groups]: of the
/// given placement, or with `dealt` of experts dealt out in order. 1 everywhere is balance.
std::vector<std::vector<double>> groupLoads(const RoutingStats &stats, int64_t groups, bool dealt);

/// Tables of at most 100 columns, ending with a newline.
std::string planText(const PlanReport &report);

/// The report as JSON, deterministic.
json::Value planJson(const PlanReport &report);

/// One self-contained page that draws `report`, which is a planJson().
std::string planHtml(const json::Value &report);

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_PLANREPORT_H
