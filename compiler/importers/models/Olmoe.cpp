//===- Olmoe.cpp - The OLMoE family ----------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention whose norms of queries and keys run over the whole projection, then clip; every
// layer routes to experts, by default without renormalising their weights. `intermediate_size` is
// the width of one expert.
// Source: modeling_olmoe.py and configuration_olmoe.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importOlmoe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config, {.kvHeadsOfHeads = true});
  int64_t numExperts = config.getSize("num_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("intermediate_size");
  bool renormalize = config.getBoolOr("norm_topk_prob", false);
  bool bias = config.getBoolOr("attention_bias", false);
  double clip = readClip(config, "clip_qkv");
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 1e4});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, {.topK = topK, .renormalize = renormalize});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope, .clip = clip};
    readProjections(model, part, hidden, bias, bias);
    readQkNorms(model, part, moe::QkNorm::Whole, decoder.normEps);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t, Value x) {
    return routedExperts(
        model, x, hidden,
        {.count = numExperts, .width = expertSize, .routing = routing, .activation = activation});
  };
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
