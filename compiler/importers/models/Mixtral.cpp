//===- Mixtral.cpp - The Mixtral family -------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention without biases and, in every layer, routed experts without shared ones. The
// router's softmax runs over all experts, then the weights of the chosen ones are renormalised:
// always, there is no key for it. `intermediate_size` is the width of one expert.
// Source: modeling_mixtral.py of Hugging Face transformers; checkpoints keep the names of the
// original release (w1 = gate, w3 = up, w2 = down).
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importMixtral(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = config.getSize("num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("intermediate_size");
  int64_t window = config.getSizeOr("sliding_window", 0);
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 1e6});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // Noise on the router's input while training.
  config.ignore("router_jitter_noise");
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, {.topK = topK, .renormalize = true});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention layer = {.spec = groupedSpec(decoder), .rope = rope};
    layer.spec.window = window;
    readProjections(model, layer, hidden, /*qkvBias=*/false, /*outBias=*/false);
    return groupedAttention(model, x, layer);
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
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
