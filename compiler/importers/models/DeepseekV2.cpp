//===- DeepseekV2.cpp - The DeepSeek-V2 family (V2, V2-Lite, Coder-V2) -----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Latent attention, with or without a latent of the queries, always rotated in pairs; softmax over
// all experts, of which the best are chosen (greedy) or the best of the groups with the best expert
// (group_limited_greedy). Weights are scaled, not renormalised.
// Source: modeling_deepseek_v2.py and configuration_deepseek_v2.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/LatentBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importDeepseekV2(ModelBuilder &model) {
  ConfigReader &config = model.config();
  DecoderConfig decoder = readLatentDecoderConfig(config);
  LatentAttention attention =
      readLatentAttention(config, model.context(), decoder, /*interleaved=*/true);
  DeepseekExperts experts = readDeepseekExperts(config, decoder, /*firstSparse=*/0);
  experts.denseBias = config.getBoolOr("mlp_bias", false);

  std::string score = config.getStringOr("scoring_func", "softmax");
  if (!config.failed() && score != "softmax")
    config.error("scoring_func", "\"" + score + "\" is not supported; this family has softmax");
  std::string method = config.getStringOr("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    readGroups(config, experts.numExperts, moe::GroupScore::Max, experts.rule);
  } else {
    // Groups play no part in the plain choice.
    config.ignore("n_group");
    config.ignore("topk_group");
    if (!config.failed() && method != "greedy")
      config.error("topk_method", "\"" + method +
                                      "\" is not supported; supported are greedy and "
                                      "group_limited_greedy");
  }
  if (config.getBoolOr("norm_topk_prob", false) && !config.failed())
    config.error("norm_topk_prob",
                 "true is not supported: the publisher's code renormalises and leaves "
                 "routed_scaling_factor out, transformers ignores the key, and no published model "
                 "sets it; set it to false for what transformers computes");
  return buildDeepseekDecoder(model, decoder, attention, experts);
}

} // namespace sluice
