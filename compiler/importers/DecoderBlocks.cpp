//===- DecoderBlocks.cpp - Parts that many families share -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The order of what happens to queries and keys is the one that --sluice-fuse-qkv recognises and
// the kernels compute.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"

#include <cmath>

using namespace mlir;

namespace sluice {

AttentionSpec groupedSpec(const DecoderConfig &config) {
  return {.heads = config.numHeads,
          .kvHeads = config.numKvHeads,
          .headDim = config.headDim,
          .valueDim = config.headDim,
          .scale = 1.0 / std::sqrt(double(config.headDim))};
}

void readQkNorms(ModelBuilder &model, GroupedAttention &attention, moe::QkNorm kind, double eps,
                 StringRef prefix) {
  auto read = [&](StringRef symbol, StringRef name, int64_t heads) {
    int64_t width = attention.spec.headDim * (kind == moe::QkNorm::PerHead ? 1 : heads);
    return model.weight(symbol, (prefix + name).str(), {width});
  };
  attention.qkNorm = kind;
  attention.qkNormEps = eps;
  attention.qNorm = read("attn.q_norm", "q_norm.weight", attention.spec.heads);
  attention.kNorm = read("attn.k_norm", "k_norm.weight", attention.spec.kvHeads);
}

void readProjections(ModelBuilder &model, GroupedAttention &attention, int64_t hidden, bool qkvBias,
                     bool outBias, StringRef prefix) {
  auto read = [&](StringRef symbol, StringRef name, int64_t out, int64_t in, bool bias) {
    std::string key = (prefix + name).str();
    Projection projection = {model.weight(symbol, key + ".weight", {out, in})};
    if (bias)
      projection.bias = model.weight((symbol + "_bias").str(), key + ".bias", {out});
    return projection;
  };
  const AttentionSpec &spec = attention.spec;
  attention.q = read("attn.q", "q_proj", spec.heads * spec.headDim, hidden, qkvBias);
  attention.k = read("attn.k", "k_proj", spec.kvHeads * spec.headDim, hidden, qkvBias);
  attention.v = read("attn.v", "v_proj", spec.kvHeads * spec.valueDim, hidden, qkvBias);
  attention.o = read("attn.o", "o_proj", hidden, spec.heads * spec.valueDim, outBias);
}

Value groupedAttention(ModelBuilder &model, Value x, const GroupedAttention &attention) {
  auto project = [&](const Projection &projection) {
    return model.linear(x, projection.weight, projection.bias);
  };
  auto prepare = [&](const Projection &projection, FlatSymbolRefAttr norm, int64_t heads) {
    Value y = project(projection);
    if (norm)
      y = model.rmsNorm(y, norm, attention.qkNormEps,
                        attention.qkNorm == moe::QkNorm::PerHead ? heads : 1);
    if (attention.clip > 0)
      y = model.clamp(y, attention.clip);
    if (attention.rope)
      y = model.rope(y, heads, attention.rope);
    if (attention.qkNorm == moe::QkNorm::L2AfterRope)
      y = model.l2Norm(y, attention.qkNormEps, heads);
    return y;
  };
  Value q = prepare(attention.q, attention.qNorm, attention.spec.heads);
  if (attention.temperatureFloor > 0)
    q = model.temperature(q, attention.temperatureScale, attention.temperatureFloor);
  Value k = prepare(attention.k, attention.kNorm, attention.spec.kvHeads);
  Value v = project(attention.v);
  if (attention.clip > 0)
    v = model.clamp(v, attention.clip);
  Value attended = model.attention(q, k, v, attention.spec);
  return model.linear(attended, attention.o.weight, attention.o.bias);
}

LogicalResult buildPreNormDecoder(ModelBuilder &model, const DecoderConfig &config,
                                  const PreNormDecoder &decoder) {
  const int64_t hidden = config.hiddenSize;
  auto readNorm = [&](const std::string &symbol, const std::string &key) {
    NormSpec norm = {.weight = model.weight(symbol, key + ".weight", {hidden}),
                     .eps = config.normEps,
                     .kind = decoder.normKind};
    if (decoder.normBias)
      norm.bias = model.weight(symbol + "_bias", key + ".bias", {hidden});
    return norm;
  };
  // Frequencies that old checkpoints stored, and the head beside a table it is tied to.
  model.ignoreTensors(decoder.prefix + "layers.*.self_attn.rotary_emb.inv_freq");
  if (config.tiedEmbeddings)
    model.ignoreTensors(decoder.headKey + ".weight");

  FlatSymbolRefAttr embed =
      model.weight("embed", decoder.prefix + "embed_tokens.weight", {config.vocabSize, hidden});
  Value x = model.embedding(embed, decoder.embeddingMultiplier);
  for (int64_t layer = 0; layer < config.numLayers; ++layer) {
    model.enterLayer(layer, decoder.prefix + "layers." + std::to_string(layer) + ".");
    Value n = model.norm(x, readNorm("input_norm", "input_layernorm"));
    x = model.residual(x, decoder.attention(layer, n), decoder.residualMultiplier);
    n = model.norm(x, readNorm("post_norm", "post_attention_layernorm"));
    x = model.residual(x, decoder.feedForward(layer, n), decoder.residualMultiplier);
  }
  model.leaveLayers();
  HeadSpec head = {.norm = readNorm("norm", decoder.prefix + "norm"),
                   .weight = embed,
                   .scale = decoder.logitScale};
  if (!config.tiedEmbeddings)
    head.weight = model.weight("head", decoder.headKey + ".weight", {config.vocabSize, hidden});
  if (decoder.headBias)
    head.bias = model.weight("head_bias", decoder.headKey + ".bias", {config.vocabSize});
  return model.finish(x, head);
}

void ignoreNextTokenLayers(ModelBuilder &model, int64_t numLayers) {
  // One layer in every published checkpoint; a few more do no harm.
  constexpr int64_t kMostLayers = 8;
  for (int64_t layer = numLayers; layer < numLayers + kMostLayers; ++layer)
    model.ignoreTensors("model.layers." + std::to_string(layer) + ".*",
                        "they predict further tokens ahead");
}

void readGroups(ConfigReader &config, int64_t numExperts, moe::GroupScore score,
                RoutingRule &rule) {
  rule.groups = config.getSizeOr("n_group", 1);
  rule.topkGroup = config.getSizeOr("topk_group", 1);
  if (rule.groups > 1)
    rule.groupScore = score;
  if (config.failed())
    return;
  auto text = [](int64_t value) { return std::to_string(value); };
  if (numExperts % rule.groups != 0)
    config.error("n_group",
                 text(rule.groups) + " does not divide the " + text(numExperts) + " experts");
  else if (rule.topkGroup > rule.groups)
    config.error("topk_group", text(rule.topkGroup) + " exceeds n_group " + text(rule.groups));
  else if (rule.topK > numExperts / rule.groups * rule.topkGroup)
    config.error("topk_group", text(rule.topkGroup) + " groups of " +
                                   text(numExperts / rule.groups) + " experts hold fewer than " +
                                   "num_experts_per_tok " + text(rule.topK));
}

moe::RoutingAttr makeRouting(MLIRContext &context, const RoutingRule &rule) {
  return moe::RoutingAttr::get(&context, rule.score, rule.topK, rule.scoreFirst, rule.renormalize,
                               rule.epsilon, rule.scale, rule.groups, rule.topkGroup,
                               rule.groupScore, rule.sparseMixer, rule.jitter);
}

GatedWeights readFfn(ModelBuilder &model, StringRef symbol, StringRef prefix, int64_t width,
                     int64_t hidden, const GatedNames &names, bool biases) {
  auto read = [&](const Twine &part, const Twine &key, ArrayRef<int64_t> shape) {
    return model.weight((symbol + "." + part).str(), (prefix + key).str(), shape);
  };
  GatedWeights weights = {.gate = read("gate", names.gate + ".weight", {width, hidden}),
                          .up = read("up", names.up + ".weight", {width, hidden}),
                          .down = read("down", names.down + ".weight", {hidden, width})};
  if (biases) {
    weights.gateBias = read("gate_bias", names.gate + ".bias", {width});
    weights.upBias = read("up_bias", names.up + ".bias", {width});
    weights.downBias = read("down_bias", names.down + ".bias", {hidden});
  }
  return weights;
}

GatedWeights readExperts(ModelBuilder &model, StringRef pattern, int64_t count, int64_t width,
                         int64_t hidden, const GatedNames &names) {
  auto read = [&](StringRef symbol, StringRef name, ArrayRef<int64_t> shape) {
    return model.define(symbol,
                        model.stackedTensors((pattern + name + ".weight").str(), count, shape));
  };
  return {.gate = read("experts.gate", names.gate, {width, hidden}),
          .up = read("experts.up", names.up, {width, hidden}),
          .down = read("experts.down", names.down, {hidden, width})};
}

Value routedExperts(ModelBuilder &model, Value x, int64_t hidden, const RoutedExperts &experts) {
  Value logits =
      model.linear(x, model.weight("router", experts.routerKey, {experts.count, hidden}));
  FlatSymbolRefAttr correction;
  if (!experts.correctionKey.empty())
    correction = model.weight("router_correction", experts.correctionKey, {experts.count});
  return model.experts(x, model.route(logits, experts.routing, correction),
                       readExperts(model, experts.expertPattern, experts.count, experts.width,
                                   hidden, experts.names),
                       experts.activation);
}

} // namespace sluice
