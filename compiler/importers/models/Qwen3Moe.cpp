//===- Qwen3Moe.cpp - The Qwen3-MoE family ---------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention with a norm per head on queries and keys; layers that are dense by rule or by
// list; no shared expert. Hub configurations renormalise the chosen weights; the class does not by
// default.
// Source: modeling_qwen3_moe.py and configuration_qwen3_moe.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importQwen3Moe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = readEitherSize(config, "num_experts", "num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("moe_intermediate_size");
  int64_t denseSize = config.getSize("intermediate_size");
  bool renormalize = config.getBoolOr("norm_topk_prob", false);
  bool bias = config.getBoolOr("attention_bias", false);
  std::vector<bool> sparse = readSparseLayers(config, decoder.numLayers);
  // A window holds for every layer, whatever max_window_layers says.
  bool useWindow = config.getBoolOr("use_sliding_window", false);
  int64_t window = useWindow ? config.getSizeOr("sliding_window", 4096) : 0;
  config.ignore("sliding_window");
  config.ignore("max_window_layers");
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 1e4});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, {.topK = topK, .renormalize = renormalize});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    part.spec.window = window;
    readProjections(model, part, hidden, bias, bias);
    readQkNorms(model, part, moe::QkNorm::PerHead, decoder.normEps);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t layer, Value x) {
    if (!sparse[layer])
      return model.ffn(x, readFfn(model, "ffn", "mlp.", denseSize, hidden), activation);
    return routedExperts(
        model, x, hidden,
        {.count = numExperts, .width = expertSize, .routing = routing, .activation = activation});
  };
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
