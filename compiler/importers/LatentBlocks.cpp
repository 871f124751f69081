//===- LatentBlocks.cpp - What DeepSeek-like families share -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// kv_a_proj_with_mqa yields the latent and the rope part of the keys in one product; its rows are
// taken apart here because different things happen to them, and put together again by
// --sluice-fuse-latent-attention.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/LatentBlocks.h"

#include <cmath>

using namespace mlir;

namespace sluice {

/// The norms inside attention have this eps, whatever rms_norm_eps is: transformers and the
/// publisher create them without one. Published models have the same rms_norm_eps.
static constexpr double latentNormEps = 1e-6;

DecoderConfig readLatentDecoderConfig(ConfigReader &config) {
  return readDecoderConfig(config, {.kvHeadsOfHeads = true, .ownHeadSizes = true});
}

/// YaRN's factor of the scores: (0.1 * mscale_all_dim * ln(factor) + 1)^2.
static double yarnScoreFactor(moe::RopeAttr rope) {
  DictionaryAttr scaling = rope.getScaling();
  if (!scaling)
    return 1;
  auto all = scaling.getAs<FloatAttr>("mscale_all_dim"),
       factor = scaling.getAs<FloatAttr>("factor");
  if (!all || !factor || factor.getValueAsDouble() <= 1)
    return 1;
  double mscale = 0.1 * all.getValueAsDouble() * std::log(factor.getValueAsDouble()) + 1;
  return all.getValueAsDouble() == 0 ? 1 : mscale * mscale;
}

LatentAttention readLatentAttention(ConfigReader &config, MLIRContext &context,
                                    const DecoderConfig &decoder, bool interleaved) {
  LatentAttention result;
  LatentAttentionSpec &spec = result.spec;
  spec.heads = decoder.numHeads;
  spec.latentDim = config.getSize("kv_lora_rank");
  spec.nopeDim = config.getSize("qk_nope_head_dim");
  spec.ropeDim = config.getSize("qk_rope_head_dim");
  spec.valueDim = config.getSize("v_head_dim");
  result.queryRank = config.getSizeOr("q_lora_rank", 0);
  result.bias = config.getBoolOr("attention_bias", false);
  const int64_t headDim = spec.nopeDim + spec.ropeDim;
  auto text = [](int64_t value) { return std::to_string(value); };
  if (!config.failed() && decoder.numKvHeads != decoder.numHeads)
    config.error("num_key_value_heads",
                 text(decoder.numKvHeads) + ", expected num_attention_heads " +
                     text(decoder.numHeads) + ": all keys and values come from one latent");
  if (int64_t given = config.getSizeOr("qk_head_dim", headDim);
      !config.failed() && given != headDim)
    config.error("qk_head_dim",
                 text(given) + " contradicts qk_nope_head_dim + qk_rope_head_dim " + text(headDim));
  if (!config.failed() && spec.ropeDim % 2 != 0)
    config.error("qk_rope_head_dim", text(spec.ropeDim) + " is odd; pairs are rotated");
  result.keyRope = readRope(config, context, spec.ropeDim, decoder.maxPosition,
                            {.theta = 1e4, .interleaved = interleaved});
  if (!result.keyRope)
    return result;
  result.queryRope = moe::RopeAttr::get(
      &context, result.keyRope.getDim(), spec.nopeDim + result.keyRope.getOffset(),
      result.keyRope.getInterleaved(), result.keyRope.getBase(), result.keyRope.getScaling());
  spec.scale = yarnScoreFactor(result.keyRope) / std::sqrt(double(headDim));
  return result;
}

Value latentAttention(ModelBuilder &model, Value x, const LatentAttention &attention,
                      int64_t hidden) {
  const LatentAttentionSpec &spec = attention.spec;
  const int64_t queries = spec.heads * (spec.nopeDim + spec.ropeDim);
  auto project = [&](Value input, StringRef symbol, StringRef key, int64_t out, int64_t in,
                     bool bias) {
    std::string name = ("self_attn." + key).str();
    FlatSymbolRefAttr weight = model.weight(symbol, name + ".weight", {out, in}), offset;
    if (bias)
      offset = model.weight((symbol + "_bias").str(), name + ".bias", {out});
    return model.linear(input, weight, offset);
  };
  Value query;
  if (attention.queryRank > 0) {
    query = project(x, "attn.q_a", "q_a_proj", attention.queryRank, hidden, attention.bias);
    query = model.rmsNorm(
        query, model.weight("attn.q_norm", "self_attn.q_a_layernorm.weight", {attention.queryRank}),
        latentNormEps);
    query = project(query, "attn.q_b", "q_b_proj", queries, attention.queryRank, false);
  } else {
    query = project(x, "attn.q", "q_proj", queries, hidden, false);
  }
  query = model.rope(query, spec.heads, attention.queryRope);
  if (attention.temperatureFloor > 0)
    query = model.temperature(query, attention.temperatureScale, attention.temperatureFloor,
                              /*offset=*/0);

  const int64_t rows = spec.latentDim + spec.ropeDim;
  const std::string key = "self_attn.kv_a_proj_with_mqa";
  TypedAttr weight = model.tensor(key + ".weight", {rows, hidden}), bias;
  if (attention.bias)
    bias = model.tensor(key + ".bias", {rows});
  auto projectRows = [&](StringRef symbol, int64_t begin, int64_t size) {
    FlatSymbolRefAttr part = model.define(symbol, ModelBuilder::slice(weight, 0, begin, size)),
                      offset;
    if (bias)
      offset = model.define((symbol + "_bias").str(), ModelBuilder::slice(bias, 0, begin, size));
    return model.linear(x, part, offset);
  };
  Value latent = projectRows("attn.kv_latent", 0, spec.latentDim);
  latent = model.rmsNorm(
      latent, model.weight("attn.kv_norm", "self_attn.kv_a_layernorm.weight", {spec.latentDim}),
      latentNormEps);
  Value rotated = projectRows("attn.kv_rope", spec.latentDim, spec.ropeDim);
  rotated = model.rope(rotated, 1, attention.keyRope);

  FlatSymbolRefAttr kvB =
      model.weight("attn.kv_b", "self_attn.kv_b_proj.weight",
                   {spec.heads * (spec.nopeDim + spec.valueDim), spec.latentDim});
  Value attended = model.latentAttention(query, latent, rotated, kvB, spec);
  return project(attended, "attn.o", "o_proj", hidden, spec.heads * spec.valueDim, attention.bias);
}

DeepseekExperts readDeepseekExperts(ConfigReader &config, const DecoderConfig &decoder,
                                    int64_t firstSparse) {
  DeepseekExperts result;
  result.numExperts = readEitherSize(config, "n_routed_experts", "num_local_experts");
  result.expertSize = config.getSize("moe_intermediate_size");
  result.denseSize = config.getSize("intermediate_size");
  result.sharedExperts = config.getIntOr("n_shared_experts", 0);
  if (!config.failed() && result.sharedExperts < 0)
    config.error("n_shared_experts", "expected at least 0");
  result.firstSparse = readFirstSparseLayer(config, decoder.numLayers, firstSparse);
  result.sparseStep = config.getSizeOr("moe_layer_freq", 1);
  bool routes = false;
  for (int64_t layer = 0; layer < decoder.numLayers; ++layer)
    routes |= result.isSparse(layer);
  if (!config.failed() && !routes)
    config.error("moe_layer_freq", "no layer routes to experts; this is not a Mixture-of-Experts "
                                   "model");
  result.rule.topK = config.getSize("num_experts_per_tok");
  result.rule.scale = readMultiplier(config, "routed_scaling_factor");
  result.rule.epsilon = 1e-20;
  return result;
}

void readTopTwoGroups(ConfigReader &config, DeepseekExperts &experts) {
  for (const char *key : {"n_group", "topk_group"})
    if (!config.has(key))
      (void)config.getSize(key);
  readGroups(config, experts.numExperts, moe::GroupScore::Top2Sum, experts.rule);
  if (!config.failed() && experts.rule.groups > 1 && experts.numExperts / experts.rule.groups < 2)
    config.error("n_group", "groups of one expert have no two best ones to be ranked by");
}

Value deepseekFeedForward(ModelBuilder &model, Value x, int64_t layer, int64_t hidden,
                          const DeepseekExperts &experts, moe::ActivationAttr activation) {
  auto dense = [&](StringRef symbol, StringRef prefix, int64_t width) {
    return model.ffn(x, readFfn(model, symbol, prefix, width, hidden, {}, experts.denseBias),
                     activation);
  };
  if (!experts.isSparse(layer))
    return dense("ffn", "mlp.", experts.denseSize);
  Value routed = routedExperts(
      model, x, hidden,
      {.count = experts.numExperts,
       .width = experts.expertSize,
       .routing = makeRouting(model.context(), experts.rule),
       .activation = activation,
       .correctionKey = experts.correction ? "mlp.gate.e_score_correction_bias" : ""});
  if (experts.sharedExperts == 0)
    return routed;
  return model.residual(
      routed, dense("shared", "mlp.shared_experts.", experts.sharedExperts * experts.expertSize));
}

LogicalResult buildDeepseekDecoder(ModelBuilder &model, const DecoderConfig &decoder,
                                   const LatentAttention &attention,
                                   const DeepseekExperts &experts) {
  ConfigReader &config = model.config();
  moe::ActivationAttr activation = readActivation(config, model.context());
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // Beside layers that predict further tokens: how experts are spread, and training losses.
  for (const char *key :
       {"num_nextn_predict_layers", "num_mtp_layers", "ep_size", "aux_loss_alpha", "seq_aux"})
    config.ignore(key);
  if (failed(model.begin(decoder, experts.numExperts, experts.rule.topK, std::move(tokens))))
    return failure();
  ignoreNextTokenLayers(model, decoder.numLayers);
  return buildPreNormDecoder(model, decoder,
                             {.attention =
                                  [&](int64_t, Value x) {
                                    return latentAttention(model, x, attention, decoder.hiddenSize);
                                  },
                              .feedForward =
                                  [&](int64_t layer, Value x) {
                                    return deepseekFeedForward(model, x, layer, decoder.hiddenSize,
                                                               experts, activation);
                                  }});
}

} // namespace sluice
