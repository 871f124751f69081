//===- DeepseekV3.cpp - The DeepSeek-V3 family (V3, R1, Kimi-K2) -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Latent attention; experts are chosen by the sigmoid of their logits plus a correction, among the
// groups with the two best experts together, and weighed by the sigmoid alone. Layers past
// num_hidden_layers predict further tokens and are left out.
// Source: modeling_deepseek_v3.py and configuration_deepseek_v3.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/LatentBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importDeepseekV3(ModelBuilder &model) {
  ConfigReader &config = model.config();
  DecoderConfig decoder = readLatentDecoderConfig(config);
  LatentAttention attention = readLatentAttention(config, model.context(), decoder,
                                                  config.getBoolOr("rope_interleave", true));
  DeepseekExperts experts = readDeepseekExperts(config, decoder, /*firstSparse=*/3);
  RoutingRule &rule = experts.rule;
  rule.score = moe::ScoreFunction::Sigmoid;
  rule.renormalize = config.getBoolOr("norm_topk_prob", true);
  experts.correction = true;
  readTopTwoGroups(config, experts);
  std::string score = config.getStringOr("scoring_func", "sigmoid");
  if (!config.failed() && score != "sigmoid")
    config.error("scoring_func", "\"" + score +
                                     "\" is not supported; this family has sigmoid, and "
                                     "MistralLarge3ForCausalLM has softmax");
  std::string method = config.getStringOr("topk_method", "noaux_tc");
  if (!config.failed() && method != "noaux_tc")
    config.error("topk_method", "\"" + method + "\" is not supported; this family has noaux_tc");
  return buildDeepseekDecoder(model, decoder, attention, experts);
}

} // namespace sluice
