//===- MiniMaxM2.cpp - The MiniMax-M2 family -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention that rotates a part of every head, its norms of queries and keys over the whole
// projection; every layer routes by sigmoid scores that a bias corrects for the choice.
// `intermediate_size` is the width of one expert; names are those of Mixtral.
// Source: modeling_minimax_m2.py and configuration_minimax_m2.py of Hugging Face transformers; keys
// that only hub configurations have: the publisher's config.json.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

/// Keys of hub configurations that may only have the value this family computes with.
static void checkFixedKeys(ConfigReader &config) {
  if (std::string score = config.getStringOr("scoring_func", "sigmoid"); score != "sigmoid")
    config.error("scoring_func", "\"" + score + "\" is not supported; expected \"sigmoid\"");
  if (!config.getBoolOr("use_qk_norm", true))
    config.error("use_qk_norm", "false is not supported; this family normalises queries and keys");
  if (std::string kind = config.getStringOr("qk_norm_type", "per_layer"); kind != "per_layer")
    config.error("qk_norm_type", "\"" + kind + "\" is not supported; expected \"per_layer\"");
  if (!config.getBoolOr("use_routing_bias", true))
    config.error("use_routing_bias", "false is not supported; expected true");
  if (config.getIntOr("shared_intermediate_size", 0) != 0)
    config.error("shared_intermediate_size", "shared experts are not supported; expected 0");
  if (config.has("attn_type_list")) {
    for (int64_t type : config.getInts("attn_type_list"))
      if (!config.failed() && type != 1)
        config.error("attn_type_list", "attention of type " + std::to_string(type) +
                                           " is not supported; expected 1, softmax attention");
  } else {
    config.ignore("attn_type_list");
  }
  for (const char *key :
       {"layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta"})
    if (config.getDoubleOr(key, 1.0) != 1.0)
      config.error(key, "residual weights other than 1 are not supported");
}

LogicalResult importMiniMaxM2(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = config.getSize("num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("intermediate_size");
  checkFixedKeys(config);
  moe::ActivationAttr activation = readActivation(config, context);
  RopeOptions ropeOptions = {.theta = 5e6};
  if (config.has("rotary_dim"))
    ropeOptions.partialFactor = double(config.getSize("rotary_dim")) / double(decoder.headDim);
  config.ignore("rotary_dim");
  moe::RopeAttr rope = readRope(config, context, decoder.headDim, decoder.maxPosition, ropeOptions);
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // Noise while training; the width of dense layers, of which there are none; further tokens.
  for (const char *key : {"router_jitter_noise", "mlp_intermediate_size", "use_mtp",
                          "num_mtp_modules", "mtp_transformer_layers"})
    config.ignore(key);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();
  ignoreNextTokenLayers(model, decoder.numLayers);

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(
      context, {.score = moe::ScoreFunction::Sigmoid, .topK = topK, .renormalize = true});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    readProjections(model, part, hidden, /*qkvBias=*/false, /*outBias=*/false);
    readQkNorms(model, part, moe::QkNorm::Whole, decoder.normEps);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t, Value x) {
    return routedExperts(model, x, hidden,
                         {.count = numExperts,
                          .width = expertSize,
                          .routing = routing,
                          .activation = activation,
                          .routerKey = "block_sparse_moe.gate.weight",
                          .correctionKey = "block_sparse_moe.e_score_correction_bias",
                          .expertPattern = "block_sparse_moe.experts.{}.",
                          .names = {"w1", "w3", "w2"}});
  };
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
