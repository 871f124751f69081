//===- SluiceCompile.cpp - Checkpoint to artifact ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "compiler/driver/Compile.h"
#include "tools/support/Cli.h"
#include "tools/support/CompileFlags.h"
#include "tools/support/QualityGate.h"

#include <cstdio>

using namespace sluice;

namespace {

void printLines(const std::vector<std::string> &lines) {
  for (const std::string &line : lines)
    std::printf("%s\n", line.c_str());
}

/// Runs the quality gates, if there are any; the report then says how they came out.
Status checkGates(CompileOptions &options, const CompileHooks &hooks,
                  const std::vector<std::string> &texts) {
  std::vector<cli::QualityGate> gates;
  for (const std::string &text : texts) {
    SLUICE_ASSIGN_OR_RETURN(cli::QualityGate gate, cli::parseQualityGate(text));
    gates.push_back(std::move(gate));
  }
  if (!gates.empty()) {
    SLUICE_ASSIGN_OR_RETURN(options.qualityReport, cli::checkQuality(options, hooks, gates));
  }
  return Status::ok();
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Compiles a Mixture-of-Experts checkpoint into a deployment artifact.");
  cli::setUp(app, "sluice-compile");
  CompileOptions options;
  std::vector<std::string> gateTexts;
  bool phases = false, models = false, targets = false, kernels = false, quiet = false;

  app.add_option("model", options.model,
                 "checkpoint folder (config.json and safetensors), or a .mlir file");
  app.add_option("-o,--output", options.output, "artifact folder to write, NAME.sluice");

  cli::addLimits(app, options);
  auto *decisions = app.add_option_group("Decisions");
  decisions->add_option("--target", options.target, "target description (--list-targets)");
  decisions->add_option("--ranks", options.ranks, "number of ranks")->check(CLI::PositiveNumber);
  decisions->add_option("--tp", options.tp, "ranks that split each expert; tp * ep = ranks")
      ->check(CLI::PositiveNumber);
  decisions->add_option("--ep", options.ep, "groups of ranks that experts are dealt to")
      ->check(CLI::PositiveNumber);
  decisions->add_option("--dp", options.dp, "groups with their own sequences and KV caches")
      ->check(CLI::PositiveNumber);
  decisions->add_option("--slots", options.slots, "expert slots of a layer, for replicas")
      ->check(CLI::PositiveNumber);
  cli::addModelFlags(*decisions, options);
  decisions
      ->add_option("--activations", options.activations,
                   "what fp8 attention weights are multiplied with: f32, or fp8")
      ->check(CLI::IsMember({"f32", "fp8"}));
  decisions->add_option("--quality-gate", gateTexts,
                        "FILE[:PERCENT]: refuse when the text's perplexity rises by more [1 %]");

  auto *output = app.add_option_group("Phases and output");
  output->add_option("--compile-to", options.compileTo,
                     "stop after this phase and print the module");
  output->add_option("--dump-phases-to", options.dumpPhasesTo,
                     "folder for one .mlir file per phase");
  output->add_option("--checkpoint", options.checkpoint, "folder of the weights of a .mlir model");
  output->add_option("--report", options.report, "also write the report to this file");
  output->add_flag("--quiet", quiet, "no progress");

  auto *lists = app.add_option_group("Lists");
  lists->add_flag("--list-phases", phases, "names that --compile-to takes");
  lists->add_flag("--list-models", models, "model families and stored formats");
  lists->add_flag("--list-targets", targets, "target descriptions");
  lists->add_flag("--list-kernels", kernels, "kernel families and their arguments");

  if (int code = cli::parse(app, argc, argv); code >= 0)
    return code;
  if (phases)
    printLines(listPhases());
  if (models)
    printLines(listModels());
  if (targets)
    printLines(listTargets());
  if (kernels)
    printLines(listKernels());
  if (phases || models || targets || kernels)
    return 0;

  cli::Progress progress(!quiet);
  CompileHooks hooks;
  hooks.progress = [&](const std::string &stage, uint64_t done, uint64_t total) {
    progress.update(stage, done, total);
  };
  hooks.diagnostic = [&](const std::string &text) {
    progress.finish();
    std::fprintf(stderr, "%s\n", text.c_str());
  };
  hooks.module = [&](const std::string &text) { std::fwrite(text.data(), 1, text.size(), stdout); };
  Status status = checkGates(options, hooks, gateTexts);
  if (status.isOk())
    status = compileModel(options, hooks);
  progress.finish();
  return cli::exitWith("sluice-compile", status);
}
