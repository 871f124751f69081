//===- Ernie4_5Moe.cpp - The ERNIE-4.5-MoE family --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Grouped attention with rotated neighbours; a range of layers routes to experts: softmax over all,
// a correction for the choice, weights renormalised, shared experts added. Tensors of the
// next-token prediction block are left out. Source: modeling_ernie4_5_moe.py and
// configuration_ernie4_5_moe.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

LogicalResult importErnie4_5Moe(ModelBuilder &model) {
  ConfigReader &config = model.config();
  MLIRContext &context = model.context();
  DecoderConfig decoder =
      readDecoderConfig(config, {.kvHeadsOfHeads = true, .tiedEmbeddings = true});
  int64_t numExperts = config.getSize("moe_num_experts");
  int64_t topK = config.getSize("moe_k");
  if (!config.failed() && topK > numExperts)
    config.error("moe_k",
                 std::to_string(topK) + " exceeds moe_num_experts " + std::to_string(numExperts));
  int64_t expertSize = config.getSize("moe_intermediate_size");
  int64_t denseSize = config.getSize("intermediate_size");
  int64_t sharedExperts = config.getIntOr("moe_num_shared_experts", 2);
  int64_t firstSparse = config.getIntOr("moe_layer_start_index", 1);
  int64_t lastSparse = config.getIntOr("moe_layer_end_index", -1);
  int64_t interval = config.getSizeOr("moe_layer_interval", 1);
  if (lastSparse == -1)
    lastSparse = decoder.numLayers - 1;
  // The reference divides by max(sum, minimum); adding the minimum is the same while it is tiny.
  double weightMinimum = config.getDoubleOr("moe_norm_min", 1e-12);
  if (!config.failed() && !(weightMinimum >= 0 && weightMinimum <= 1e-9))
    config.error("moe_norm_min", "only minima from 0 to 1e-9 are supported");
  if (!config.failed() && sharedExperts < 0)
    config.error("moe_num_shared_experts", "expected 0 or more");
  if (std::string gate = config.getStringOr("moe_gate", "topk"); gate != "topk")
    config.error("moe_gate", "\"" + gate + "\" is not supported; expected \"topk\"");
  if (!config.getBoolOr("moe_use_aux_free", true))
    config.error("moe_use_aux_free", "false is not supported; this family corrects the choice");
  // How many tokens an expert takes at most, which only training limits.
  config.ignore("moe_capacity");
  bool bias = config.getBoolOr("use_bias", false);
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope = readRope(config, context, decoder.headDim, decoder.maxPosition,
                                {.theta = 5e5, .interleaved = true});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  config.ignore("num_nextn_predict_layers");
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();
  model.ignoreTensors("model.mtp_*", "they predict further tokens ahead");

  const int64_t hidden = decoder.hiddenSize;
  moe::RoutingAttr routing =
      makeRouting(context, {.topK = topK, .renormalize = true, .epsilon = weightMinimum});
  auto attention = [&](int64_t, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder), .rope = rope};
    readProjections(model, part, hidden, bias, bias);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t layer, Value x) {
    if (layer < firstSparse || layer > lastSparse || (layer + 1) % interval != 0)
      return model.ffn(x, readFfn(model, "ffn", "mlp.", denseSize, hidden, {}, bias), activation);
    Value logits = model.linear(x, model.weight("router", "mlp.gate.weight", {numExperts, hidden}));
    FlatSymbolRefAttr correction =
        model.define("router_correction",
                     ModelBuilder::reshape(
                         model.tensor("mlp.moe_statics.e_score_correction_bias", {1, numExperts}),
                         {numExperts}));
    Value routed = model.experts(
        x, model.route(logits, routing, correction),
        readExperts(model, "mlp.experts.{}.", numExperts, expertSize, hidden), activation);
    if (sharedExperts == 0)
      return routed;
    Value shared = model.ffn(x,
                             readFfn(model, "shared", "mlp.shared_experts.",
                                     sharedExperts * expertSize, hidden, {}, bias),
                             activation);
    return model.residual(routed, shared);
  };
  return buildPreNormDecoder(
      model, decoder, {.headBias = bias, .attention = attention, .feedForward = feedForward});
}

} // namespace sluice
