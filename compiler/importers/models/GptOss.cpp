//===- GptOss.cpp - The gpt-oss family --------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention with biases and a sink per head; every other layer sees a window of positions
// only. Every layer routes to experts with biases: the best logits are chosen, then their softmax
// weighs them. Experts are stored transposed, with gate and up interleaved.
// Source: modeling_gpt_oss.py and configuration_gpt_oss.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

/// The published layout is packed: gate_up_proj [E, 2 I, H], row 2i being gate i and row 2i + 1
/// up i, and down_proj [E, H, I]. Re-saved checkpoints without packed weights hold both transposed.
static GatedWeights readExperts(ModelBuilder &model, int64_t count, int64_t width, int64_t hidden) {
  const std::string prefix = "mlp.experts.";
  auto matrices = [&](const char *name, int64_t rows, int64_t columns) {
    if (model.quantization().isMxfp4())
      return model.mxfp4Tensor(prefix + name, {count, rows, columns});
    return ModelBuilder::transpose(model.tensor(prefix + name, {count, columns, rows}), {0, 2, 1});
  };
  TypedAttr gateUp = matrices("gate_up_proj", 2 * width, hidden);
  TypedAttr bias = model.tensor(prefix + "gate_up_proj_bias", {count, 2 * width});
  auto part = [&](StringRef symbol, TypedAttr both, int64_t begin) {
    return model.define(symbol, ModelBuilder::slice(both, /*axis=*/1, begin, width, /*stride=*/2));
  };
  return {.gate = part("experts.gate", gateUp, 0),
          .up = part("experts.up", gateUp, 1),
          .down = model.define("experts.down", matrices("down_proj", hidden, width)),
          .gateBias = part("experts.gate_bias", bias, 0),
          .upBias = part("experts.up_bias", bias, 1),
          .downBias =
              model.weight("experts.down_bias", prefix + "down_proj_bias", {count, hidden})};
}

LogicalResult importGptOss(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  // Their absence means the published model's values, whatever the other sizes are.
  (void)config.getSize("head_dim");
  if (!config.has("rope_parameters") && !config.has("rope_scaling"))
    config.error("rope_parameters",
                 "is missing; it would mean YaRN with factor 32 to some readers and no scaling to "
                 "others");
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = readEitherSize(config, "num_local_experts", "num_experts");
  int64_t topK = readEitherSize(config, "num_experts_per_tok", "experts_per_token");
  int64_t expertSize = config.getSize("intermediate_size");
  bool bias = config.getBoolOr("attention_bias", true);
  std::vector<LayerAttention> layerTypes =
      readLayerTypes(config, decoder.numLayers, [](int64_t layer) {
        return layer % 2 == 0 ? LayerAttention::Sliding : LayerAttention::Full;
      });
  if (llvm::is_contained(layerTypes, LayerAttention::Chunked))
    config.error("layer_types", "chunked_attention does not exist in this family");
  int64_t window = config.getSizeOr("sliding_window", 0);
  checkWindows(config, layerTypes, window);
  double alpha = config.getDoubleOr("swiglu_alpha", 1.702);
  double limit = config.getDoubleOr("swiglu_limit", 7.0);
  if (!config.failed() && !(alpha > 0))
    config.error("swiglu_alpha", "expected a positive number");
  if (!config.failed() && !(limit > 0))
    config.error("swiglu_limit", "expected a positive number");
  moe::RopeAttr rope =
      readRope(config, context, decoder.headDim, decoder.maxPosition, {.theta = 150000});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // The experts' activation is fixed; the other is a note about YaRN's original length.
  config.ignore("hidden_act");
  config.ignore("initial_context_length");
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing = makeRouting(context, {.topK = topK, .scoreFirst = false});
  auto activation =
      moe::ActivationAttr::get(&context, moe::ActivationKind::SwigluOai, alpha, limit);
  auto attention = [&](int64_t layer, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    part.spec.window = layerTypes[layer] == LayerAttention::Sliding ? window : 0;
    part.spec.sinks = model.weight("attn.sinks", "self_attn.sinks", {decoder.numHeads});
    readProjections(model, part, hidden, bias, bias);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t, Value x) {
    FlatSymbolRefAttr router = model.weight("router", "mlp.router.weight", {numExperts, hidden});
    FlatSymbolRefAttr routerBias = model.weight("router_bias", "mlp.router.bias", {numExperts});
    Value logits = model.linear(x, router, routerBias);
    return model.experts(x, model.route(logits, routing),
                         readExperts(model, numExperts, expertSize, hidden), activation);
  };
  return buildPreNormDecoder(model, decoder, {.attention = attention, .feedForward = feedForward});
}

} // namespace sluice
