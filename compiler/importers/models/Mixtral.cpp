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

#include <cmath>

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
  moe::RopeAttr rope = readRope(config, context, decoder.headDim, decoder.maxPosition);
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // Noise on the router's input while training.
  config.ignore("router_jitter_noise");
  if (failed(model.begin({decoder.vocabSize, decoder.hiddenSize, decoder.numLayers, numExperts,
                          topK, decoder.maxPosition, std::move(tokens)})))
    return failure();
  // Frequencies that old checkpoints stored, and the head beside a table it is tied to.
  model.ignoreTensors("model.layers.*.self_attn.rotary_emb.inv_freq");
  if (decoder.tiedEmbeddings)
    model.ignoreTensors("lm_head.weight");

  const int64_t hidden = decoder.hiddenSize;
  const AttentionSpec attention = {.heads = decoder.numHeads,
                                   .kvHeads = decoder.numKvHeads,
                                   .headDim = decoder.headDim,
                                   .valueDim = decoder.headDim,
                                   .scale = 1.0 / std::sqrt(double(decoder.headDim)),
                                   .window = window};
  auto routing = moe::RoutingAttr::get(
      &context, moe::ScoreFunction::Softmax, topK, /*scoreFirst=*/true, /*renormalize=*/true,
      /*epsilon=*/0.0, /*scale=*/1.0, /*groups=*/1, /*topkGroup=*/1, moe::GroupScore::None,
      /*sparseMixer=*/false, /*jitter=*/0.0);

  FlatSymbolRefAttr embed =
      model.weight("embed", "model.embed_tokens.weight", {decoder.vocabSize, hidden});
  Value x = model.embedding(embed);
  for (int64_t layer = 0; layer < decoder.numLayers; ++layer) {
    model.enterLayer(layer, "model.layers." + std::to_string(layer) + ".");
    GroupedAttention layerAttention = {.spec = attention, .rope = rope};
    readProjections(model, layerAttention, hidden, /*qkvBias=*/false, /*outBias=*/false);
    Value n = model.rmsNorm(x, model.weight("input_norm", "input_layernorm.weight", {hidden}),
                            decoder.normEps);
    x = model.residual(x, groupedAttention(model, n, layerAttention));

    n = model.rmsNorm(x, model.weight("post_norm", "post_attention_layernorm.weight", {hidden}),
                      decoder.normEps);
    Value logits = model.linear(
        n, model.weight("router", "block_sparse_moe.gate.weight", {numExperts, hidden}));
    GatedWeights experts = readExperts(model, "block_sparse_moe.experts.{}.", numExperts,
                                       expertSize, hidden, {"w1", "w3", "w2"});
    x = model.residual(x, model.experts(n, model.route(logits, routing), experts, activation));
  }
  model.leaveLayers();
  HeadSpec head = {.norm = {.weight = model.weight("norm", "model.norm.weight", {hidden}),
                            .eps = decoder.normEps},
                   .weight = embed};
  if (!decoder.tiedEmbeddings)
    head.weight = model.weight("head", "lm_head.weight", {decoder.vocabSize, hidden});
  return model.finish(x, head);
}

} // namespace sluice
