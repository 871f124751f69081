//===- CompileFlags.cpp - Flags that say what a model is compiled to --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "tools/support/CompileFlags.h"

namespace sluice::cli {

void addLimits(CLI::App &app, CompileOptions &options) {
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
}

void addModelFlags(CLI::App &group, CompileOptions &options) {
  group.add_option("--profile", options.profiles, "expert loads to place for (repeatable)");
  group
      .add_option("--placement-phase", options.placementPhase,
                  "what placements balance: prefill (tokens) or decode (activated experts)")
      ->check(CLI::IsMember({"prefill", "decode"}));
  group.add_option("--quantize", options.quantize,
                   "weights: keep, bf16, fp8-block, mxfp4:experts, ... (docs/cli.md)");
  group.add_option("--quantize-exclude", options.quantizeExclude,
                   "weights that stay as they are, by pattern: layers.0.*");
  group.add_flag("--quantize-skip-unfit", options.quantizeSkipUnfit,
                 "keep matrices that a format cannot take instead of refusing them");
  group.add_option("--kv-dtype", options.kvType, "KV cache: f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  group.add_option("--buckets", options.buckets, "token counts of the programs, 1,8,64,512")
      ->delimiter(',');
  group.add_option("--weights", options.weights, "checkpoint, or synthetic: config.json suffices")
      ->check(CLI::IsMember({"checkpoint", "synthetic"}));
}

} // namespace sluice::cli
