//===- SluicePlan.cpp - What a compilation would decide ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "compiler/driver/Plan.h"
#include "runtime/base/File.h"
#include "tools/support/Cli.h"

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
  auto *limits = app.add_option_group("Limits", "the worst case to plan for; 0 = chosen");
  limits->add_option("--max-batch-tokens", options.maxBatchTokens, "tokens in one step [512]");
  limits->add_option("--max-seqs", options.maxSeqs, "sequences alive at once [16]");
  limits->add_option("--max-seq-len", options.maxSeqLen,
                     "tokens of one sequence [model, at most 4096]");
  limits->add_option("--max-logit-rows", options.maxLogitRows, "rows of logits in one step");
  limits->add_option("--page-size", options.pageSize, "tokens in one KV page [16]");
  limits->add_option("--num-pages", options.numPages, "KV pages");
  for (CLI::Option *option : limits->get_options())
    option->check(CLI::NonNegativeNumber);

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
  decisions->add_option("--quantize", options.quantize, "weights, as of sluice-compile");
  decisions->add_option("--quantize-exclude", options.quantizeExclude,
                        "weights that stay as they are, by pattern: layers.0.*");
  decisions->add_flag("--quantize-skip-unfit", options.quantizeSkipUnfit,
                      "keep matrices that a format cannot take");
  decisions->add_option("--kv-dtype", options.kvType, "KV cache [f32 on host, else bf16]")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  decisions->add_option("--buckets", options.buckets, "token counts of the programs")
      ->delimiter(',');
  decisions
      ->add_option("--weights", options.weights, "checkpoint, or synthetic: config.json suffices")
      ->check(CLI::IsMember({"checkpoint", "synthetic"}));
  decisions->add_option("--profile", options.profiles, "expert loads of a workload (repeatable)");
  decisions
      ->add_option("--placement-phase", options.placementPhase,
                   "what placements balance: prefill or decode")
      ->check(CLI::IsMember({"prefill", "decode"}));
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
