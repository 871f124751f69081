//===- PlanHtml.cpp - A plan as one page ------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The page is a template (report.html) that carries the report's JSON and draws it with plain SVG:
// no library, no network, and what is shown can be copied out of the file.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/EmbeddedReport.h"
#include "compiler/planner/PlanReport.h"

#include <cassert>

namespace sluice::planner {

std::string planHtml(const json::Value &report) {
  constexpr std::string_view kMark = "@REPORT@";
  std::string page(embeddedReport().front().second);
  // Names come from outside: nothing in them may end the script element.
  std::string data;
  for (char c : report.dump()) {
    if (c == '<')
      data += "\\u003c";
    else if (c == '&')
      data += "\\u0026";
    else
      data += c;
  }
  size_t place = page.find(kMark);
  assert(place != std::string::npos && "the template has a place for the report");
  page.replace(place, kMark.size(), data);
  return page;
}

} // namespace sluice::planner
