//===- GraniteMoe.cpp - The Granite-MoE family -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention and routed experts with four multipliers: of embeddings, attention scores,
// residual branches and logits. Experts are stored as one tensor per layer, gate rows before up
// rows; the router takes the softmax of the chosen logits. Source: modeling_granitemoe.py and
// configuration_granitemoe.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importGraniteMoe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config, {.kvHeadsOfHeads = true});
  int64_t numExperts = config.getSize("num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("intermediate_size");
  bool bias = config.getBoolOr("attention_bias", false);
  double embeddingMultiplier = readMultiplier(config, "embedding_multiplier");
  double attentionMultiplier = readMultiplier(config, "attention_multiplier");
  double residualMultiplier = readMultiplier(config, "residual_multiplier");
  double logitsScaling = readMultiplier(config, "logits_scaling");
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 1e4});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, {.topK = topK, .scoreFirst = false});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    part.spec.scale = attentionMultiplier;
    readProjections(model, part, hidden, bias, bias);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t, Value x) {
    Value logits = model.linear(
        x, model.weight("router", "block_sparse_moe.router.layer.weight", {numExperts, hidden}));
    TypedAttr gateUp =
        model.tensor("block_sparse_moe.input_linear.weight", {numExperts, 2 * expertSize, hidden});
    GatedWeights experts = {
        .gate = model.define("experts.gate", ModelBuilder::slice(gateUp, 1, 0, expertSize)),
        .up = model.define("experts.up", ModelBuilder::slice(gateUp, 1, expertSize, expertSize)),
        .down = model.weight("experts.down", "block_sparse_moe.output_linear.weight",
                             {numExperts, hidden, expertSize})};
    return model.experts(x, model.route(logits, routing), experts, activation);
  };
  return buildPreNormDecoder(model, decoder,
                             {.embeddingMultiplier = embeddingMultiplier,
                              .residualMultiplier = residualMultiplier,
                              .logitScale = 1.0 / logitsScaling,
                              .attention = attention,
                              .feedForward = feedForward});
}

} // namespace sluice
