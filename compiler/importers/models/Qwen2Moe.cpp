//===- Qwen2Moe.cpp - The Qwen2-MoE family (Qwen1.5-MoE, Qwen2-57B-A14B) ---===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention with biases on queries, keys and values; layers that are dense by rule or by
// list; beside the routed experts one shared expert whose output a sigmoid of its input scales.
// Source: modeling_qwen2_moe.py and configuration_qwen2_moe.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importQwen2Moe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config, {.kvHeadsOfHeads = true});
  int64_t numExperts = config.getSize("num_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("moe_intermediate_size");
  int64_t sharedSize = config.getSize("shared_expert_intermediate_size");
  int64_t denseSize = config.getSize("intermediate_size");
  bool renormalize = config.getBoolOr("norm_topk_prob", false);
  bool qkvBias = config.getBoolOr("qkv_bias", true);
  std::vector<bool> sparse = readSparseLayers(config, decoder.numLayers);
  // Windows hold for every second of the first layers, and only if they are switched on.
  bool useWindow = config.getBoolOr("use_sliding_window", false);
  int64_t window = config.getIntOr("sliding_window", 4096);
  int64_t windowLayers = config.getIntOr("max_window_layers", 28);
  std::vector<LayerAttention> layerTypes =
      readLayerTypes(config, decoder.numLayers, [&](int64_t layer) {
        return useWindow && layer % 2 == 0 && layer < windowLayers ? LayerAttention::Sliding
                                                                   : LayerAttention::Full;
      });
  checkWindows(config, layerTypes, useWindow ? window : 0);
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 1e4});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, {.topK = topK, .renormalize = renormalize});
  auto attention = [&](int64_t layer, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    part.spec.window = layerTypes[layer] == LayerAttention::Sliding ? window : 0;
    readProjections(model, part, hidden, qkvBias, /*outBias=*/false);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t layer, Value x) {
    if (!sparse[layer])
      return model.ffn(x, readFfn(model, "ffn", "mlp.", denseSize, hidden), activation);
    Value routed = routedExperts(
        model, x, hidden,
        {.count = numExperts, .width = expertSize, .routing = routing, .activation = activation});
    Value shared = model.ffn(x, readFfn(model, "shared", "mlp.shared_expert.", sharedSize, hidden),
                             activation);
    shared = model.sigmoidGate(
        shared, x, model.weight("shared.scale", "mlp.shared_expert_gate.weight", {1, hidden}));
    return model.residual(routed, shared);
  };
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
