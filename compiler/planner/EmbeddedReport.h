//===- EmbeddedReport.h - The template of report.html -------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// report.html of this folder, embedded by the build.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_EMBEDDEDREPORT_H
#define SLUICE_COMPILER_PLANNER_EMBEDDEDREPORT_H

#include <span>
#include <string_view>
#include <utility>

namespace sluice {

/// One entry: ("report", the page).
std::span<const std::pair<std::string_view, std::string_view>> embeddedReport();

} // namespace sluice

#endif // SLUICE_COMPILER_PLANNER_EMBEDDEDREPORT_H
