//===- SluicePlan.cpp - What a compilation would decide ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "compiler/driver/Plan.h"
#include "runtime/base/File.h"
#include "tools/support/Cli.h"
#include "tools/support/CompileFlags.h"

#include <cstdio>

using namespace sluice;

int main(int argc, char **argv) {
  CLI::App app("Plans a Mixture-of-Experts model on a target without reading its weights.");
  cli::setUp(app, "sluice-plan");
  CompileOptions options;
  options.target = "";
  options.kvType = "";
  PlanOptions plan;
  std::string html;
  bool targets = false, quiet = false;

  app.add_option("model", options.model, "checkpoint folder, or a .mlir file");
  cli::addLimits(app, options);

  auto *machine = app.add_option_group("Target");
  machine->add_option("--target", options.target, "h100, h100x8, h100x8x4, ... [host]");
  machine->add_option("--target-file", plan.targetFile, "a description of your own");
  machine->add_option("--calibration", plan.calibration, "measured constants");
  machine->add_option("--ranks", plan.request.ranks, "ranks [devices, or the fewest that fit]");
  machine->add_option("--tp", plan.request.tp, "ranks that share each expert");
  machine->add_option("--ep", plan.request.ep, "groups that hold different experts");
  machine->add_option("--dp", plan.request.dp, "groups with sequences of their own");
  machine->add_option("--slots", plan.request.slots,
                      "copies of experts in a layer, over all groups");
  for (const char *name : {"--ranks", "--tp", "--ep", "--dp", "--slots"})
    machine->get_option(name)->check(CLI::PositiveNumber);

  auto *decisions = app.add_option_group("Model");
  cli::addModelFlags(*decisions, options);
  decisions->add_option("--batch", plan.request.decodeBatch, "largest decode batch [max-seqs]")
      ->check(CLI::PositiveNumber);
  decisions
      ->add_option("--context", plan.request.decodeContext,
                   "positions behind a token [half of max-seq-len]")
      ->check(CLI::PositiveNumber);

  auto *output = app.add_option_group("Output");
  output->add_option("--report", options.report, "write the report as JSON to this file");
  output->add_option("--html", html, "write the report as a page with charts to this file");
  output->add_flag("--quiet", quiet, "no tables");
  output->add_flag("--list-targets", targets, "target descriptions");

  if (int code = cli::parse(app, argc, argv); code >= 0)
    return code;
  if (targets) {
    for (const std::string &line : listTargets())
      std::printf("%s\n", line.c_str());
    return 0;
  }
  if (options.target.empty())
    options.target = "host";

  CompileHooks hooks;
  hooks.diagnostic = [](const std::string &text) { std::fprintf(stderr, "%s\n", text.c_str()); };
  planner::PlanReport report;
  Status status = planModel(options, plan, hooks, report);
  if (status.isOk() || status.code() == StatusCode::kResourceExhausted) {
    if (!quiet)
      std::fputs(planner::planText(report).c_str(), stdout);
    json::Value value = planner::planJson(report);
    Status written = Status::ok();
    if (!options.report.empty())
      written = writeFile(options.report, value.dump(2) + "\n");
    if (!html.empty() && written.isOk())
      written = writeFile(html, planner::planHtml(value));
    if (!written.isOk())
      return cli::exitWith("sluice-plan", written);
  }
  return cli::exitWith("sluice-plan", status);
}
