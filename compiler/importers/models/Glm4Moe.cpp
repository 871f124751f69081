//===- Glm4Moe.cpp - The GLM-4.5 family (GLM-4.5, GLM-4.5-Air, GLM-4.6) ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention that rotates half of every head, with biases and norms per head as configured;
// the first layers are dense, the others route like DeepSeek-V3 (sigmoid scores, corrected for the
// choice, groups ranked by their two best) and add shared experts. Layers past num_hidden_layers
// predict further tokens and are left out.
// Source: modeling_glm4_moe.py and configuration_glm4_moe.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importGlm4Moe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = readEitherSize(config, "n_routed_experts", "num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("moe_intermediate_size");
  int64_t sharedExperts = config.getSizeOr("n_shared_experts", 1);
  int64_t denseSize = config.getSize("intermediate_size");
  int64_t firstSparse = readFirstSparseLayer(config, decoder.numLayers, 1);
  RoutingRule rule = {.score = moe::ScoreFunction::Sigmoid,
                      .topK = topK,
                      .renormalize = config.getBoolOr("norm_topk_prob", true),
                      .epsilon = 1e-20,
                      .scale = config.getDoubleOr("routed_scaling_factor", 1.0)};
  readGroups(config, numExperts, moe::GroupScore::Top2Sum, rule);
  bool bias = config.getBoolOr("attention_bias", false);
  bool qkNorm = config.getBoolOr("use_qk_norm", false);
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope = readRope(config, context, decoder.headDim, decoder.maxPosition,
                                {.theta = 1e4, .partialFactor = 0.5});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  for (const char *key : {"num_nextn_predict_layers", "num_mtp_layers"})
    config.ignore(key);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();
  ignoreNextTokenLayers(model, decoder.numLayers);

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, rule);
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    readProjections(model, part, hidden, bias, /*outBias=*/false);
    if (qkNorm)
      readQkNorms(model, part, moe::QkNorm::PerHead, decoder.normEps);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t layer, Value x) {
    if (layer < firstSparse)
      return model.ffn(x, readFfn(model, "ffn", "mlp.", denseSize, hidden), activation);
    Value routed = routedExperts(model, x, hidden,
                                 {.count = numExperts,
                                  .width = expertSize,
                                  .routing = routing,
                                  .activation = activation,
                                  .correctionKey = "mlp.gate.e_score_correction_bias"});
    Value shared = model.ffn(
        x, readFfn(model, "shared", "mlp.shared_experts.", sharedExperts * expertSize, hidden),
        activation);
    return model.residual(routed, shared);
  };
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
