//===- Phimoe.cpp - The Phi-3.5-MoE family ----------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A Mixtral with LayerNorms, biases and another router: the sparse mixer takes two experts, each
// with its probability among the experts whose logit is close to its own, and these two weights do
// not add up to 1. Source: modeling_phimoe.py and configuration_phimoe.py of Hugging Face
// transformers; the paper of the router is arXiv 2409.12136. Frequencies of long sequences follow
// the publisher's own modeling_phimoe.py, which replaces the short factors by the long ones.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

/// The family scales as LongRoPE or not at all, and names the magnitude of either length.
static void checkRope(ConfigReader &config, moe::RopeAttr rope) {
  DictionaryAttr scaling = rope ? rope.getScaling() : DictionaryAttr();
  if (!scaling)
    return;
  const char *key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  StringRef type = scaling.getAs<StringAttr>("rope_type").getValue();
  if (type != "longrope")
    config.error(key, "RoPE type \"" + type.str() + "\" does not exist in this family; expected " +
                          "longrope or default");
  else
    for (const char *name : {"short_mscale", "long_mscale"})
      if (!scaling.contains(name))
        config.error(key, std::string(name) + " is missing");
}

LogicalResult importPhimoe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = config.getSize("num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  if (!config.failed() && topK != 2)
    config.error("num_experts_per_tok", std::to_string(topK) + ", but the sparse mixer takes 2");
  int64_t expertSize = config.getSize("intermediate_size");
  int64_t window = config.getSizeOr("sliding_window", 0);
  double jitter = config.getDoubleOr("router_jitter_noise", 0.01);
  if (!config.failed() && !(jitter >= 0))
    config.error("router_jitter_noise", "expected a number of at least 0");
  bool bias = config.getBoolOr("attention_bias", false);
  bool headBias = config.getBoolOr("lm_head_bias", false);
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 1e6});
  checkRope(config, rope);
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // Noise on the router's input while training. Unlike the key above, it does not reach inference.
  config.ignore("input_jitter_noise");
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing =
      makeRouting(context, {.topK = topK, .sparseMixer = true, .jitter = jitter});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    part.spec.window = window;
    readProjections(model, part, hidden, bias, bias);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t, Value x) {
    return routedExperts(model, x, hidden,
                         {.count = numExperts,
                          .width = expertSize,
                          .routing = routing,
                          .activation = activation,
                          .routerKey = "block_sparse_moe.gate.weight",
                          .expertPattern = "block_sparse_moe.experts.{}.",
                          .names = {"w1", "w3", "w2"}});
  };
  return buildPreNormDecoder(model, decoder,
                             {.normKind = moe::NormKind::Layer,
                              .normBias = true,
                              .headBias = headBias,
                              .attention = attention,
                              .feedForward = feedForward});
}

} // namespace sluice
