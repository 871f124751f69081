//===- MistralLarge3.cpp - The Mistral Large 3 family ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// DeepSeek-V3's graph, except that experts are scored by softmax, without a correction, and that
// queries grow with their position. Checkpoints have DeepSeek's tensor names; the publisher's own
// format (params.json) has others.
// Source: modeling_mistral4.py of Hugging Face transformers, which has the same graph, and vLLM's
// mistral_large_3.py and configs/mistral.py for the configuration.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/LatentBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

/// llama_4_scaling: queries are multiplied by 1 + beta * ln(1 + floor(position / original)).
static void readQueryScaling(ConfigReader &config, LatentAttention &attention) {
  std::optional<ConfigReader> scaling = config.getObject("llama_4_scaling");
  if (!scaling)
    return;
  attention.temperatureScale = scaling->getDouble("beta");
  attention.temperatureFloor = double(scaling->getSize("original_max_position_embeddings"));
}

LogicalResult importMistralLarge3(ModelBuilder &model) {
  ConfigReader &config = model.config();
  DecoderConfig decoder = readLatentDecoderConfig(config);
  LatentAttention attention = readLatentAttention(config, model.context(), decoder,
                                                  config.getBoolOr("rope_interleave", true));
  readQueryScaling(config, attention);
  DeepseekExperts experts = readDeepseekExperts(config, decoder, /*firstSparse=*/0);
  experts.rule.renormalize = config.getBoolOr("norm_topk_prob", true);
  readTopTwoGroups(config, experts);
  std::string score = config.getStringOr("scoring_func", "softmax");
  if (!config.failed() && score != "softmax")
    config.error("scoring_func", "\"" + score + "\" is not supported; this family has softmax");
  std::string method = config.getStringOr("topk_method", "");
  if (!config.failed() && !method.empty())
    config.error("topk_method", "\"" + method + "\" is not supported; this family has null");
  return buildDeepseekDecoder(model, decoder, attention, experts);
}

} // namespace sluice
