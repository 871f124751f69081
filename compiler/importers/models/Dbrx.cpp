//===- Dbrx.cpp - The DBRX family -------------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// LayerNorms without bias, grouped attention with one product for queries, keys and values, whose
// results are clipped, and routed experts in every layer. Each of the three expert weights is one
// tensor [E * F, H]; the last is used transposed. Names of settings and tensors are the family's
// own. Source: modeling_dbrx.py and configuration_dbrx.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

#include "mlir/IR/Diagnostics.h"

using namespace mlir;

namespace sluice {

/// PyTorch's default for LayerNorm, which the family does not make a setting.
static constexpr double kNormEps = 1e-5;

namespace {
struct DbrxConfig {
  DecoderConfig decoder;
  double clip = 0, theta = 0;
  int64_t numExperts = 1, topK = 1, expertSize = 1;
  bool renormalize = true;
  moe::ActivationAttr activation = {};
};
} // namespace

static void readAttention(ConfigReader &config, DbrxConfig &result) {
  result.theta = 1e4;
  result.decoder.numKvHeads = 1;
  std::optional<ConfigReader> attention = config.getObject("attn_config");
  if (!attention)
    return;
  result.clip = readClip(*attention, "clip_qkv");
  result.decoder.numKvHeads = attention->getSizeOr("kv_n_heads", 1);
  result.theta = attention->getDoubleOr("rope_theta", 1e4);
  if (!config.failed() && !(result.theta > 0))
    attention->error("rope_theta", "expected a positive number");
}

/// ffn_act_fn is {"name": ...}; further members would be arguments of the activation.
static moe::ActivationAttr readActivationOf(ConfigReader &feedForward, MLIRContext &context) {
  std::optional<ConfigReader> activation = feedForward.getObject("ffn_act_fn");
  if (!activation)
    return moe::ActivationAttr::get(&context, moe::ActivationKind::Silu, /*alpha=*/1.0,
                                    /*limit=*/0.0);
  return readActivation(*activation, context, "name");
}

static void readFeedForward(ConfigReader &config, MLIRContext &context, DbrxConfig &result) {
  if (!config.has("ffn_config")) {
    config.error("ffn_config", "is missing");
    return;
  }
  std::optional<ConfigReader> part = config.getObject("ffn_config");
  if (!part)
    return;
  result.numExperts = part->getSize("moe_num_experts");
  result.topK = part->getSize("moe_top_k");
  if (!config.failed() && result.topK > result.numExperts)
    part->error("moe_top_k", std::to_string(result.topK) + " exceeds moe_num_experts " +
                                 std::to_string(result.numExperts));
  result.expertSize = part->getSize("ffn_hidden_size");
  result.activation = readActivationOf(*part, context);
  if (part->getSizeOr("hidden_size", result.decoder.hiddenSize) != result.decoder.hiddenSize)
    part->error("hidden_size", "contradicts d_model " + std::to_string(result.decoder.hiddenSize));
  // The order of the norm by which weights are divided; null does not divide.
  const json::Value *order = part->value().find("moe_normalize_expert_weights");
  result.renormalize = !(order && order->isNull());
  if (part->getDoubleOr("moe_normalize_expert_weights", 1) != 1)
    part->error("moe_normalize_expert_weights",
                "only a norm of order 1 is supported, or null for none");
  if (part->getBoolOr("uniform_expert_assignment", false))
    part->error("uniform_expert_assignment", "routing that ignores the tokens is not supported");
  // Both are about training.
  part->ignore("moe_jitter_eps");
  part->ignore("moe_loss_weight");
}

static DbrxConfig readDbrxConfig(ConfigReader &config, MLIRContext &context) {
  DbrxConfig result;
  DecoderConfig &decoder = result.decoder;
  decoder.vocabSize = config.getSize("vocab_size");
  decoder.hiddenSize = config.getSize("d_model");
  decoder.numLayers = config.getSize("n_layers");
  decoder.numHeads = config.getSize("n_heads");
  decoder.maxPosition = config.getSize("max_seq_len");
  decoder.normEps = kNormEps;
  readAttention(config, result);
  readFeedForward(config, context, result);
  if (config.failed())
    return result;
  auto text = [](int64_t value) { return std::to_string(value); };
  if (decoder.hiddenSize % decoder.numHeads != 0)
    config.error("n_heads",
                 text(decoder.numHeads) + " does not divide d_model " + text(decoder.hiddenSize));
  if (decoder.numHeads % decoder.numKvHeads != 0)
    config.error("attn_config", "kv_n_heads " + text(decoder.numKvHeads) +
                                    " does not divide n_heads " + text(decoder.numHeads));
  decoder.headDim = decoder.hiddenSize / decoder.numHeads;
  if (config.getBoolOr("tie_word_embeddings", false))
    config.error("tie_word_embeddings", "this family has a head of its own");
  // What newer configuration classes derive from the settings above.
  if (config.getSizeOr("num_key_value_heads", decoder.numKvHeads) != decoder.numKvHeads)
    config.error("num_key_value_heads",
                 "contradicts attn_config.kv_n_heads " + text(decoder.numKvHeads));
  config.ignore("emb_pdrop");
  return result;
}

static Value buildAttention(ModelBuilder &model, const DbrxConfig &config, moe::RopeAttr rope,
                            Value x) {
  const int64_t hidden = config.decoder.hiddenSize;
  GroupedAttention part = {.spec = groupedSpec(config.decoder), .rope = rope, .clip = config.clip};
  const int64_t qRows = part.spec.heads * part.spec.headDim;
  const int64_t kvRows = part.spec.kvHeads * part.spec.headDim;
  TypedAttr qkv = model.tensor("norm_attn_norm.attn.Wqkv.weight", {qRows + 2 * kvRows, hidden});
  auto rows = [&](StringRef symbol, int64_t begin, int64_t size) {
    return Projection{model.define(symbol, ModelBuilder::slice(qkv, /*axis=*/0, begin, size))};
  };
  part.q = rows("attn.q", 0, qRows);
  part.k = rows("attn.k", qRows, kvRows);
  part.v = rows("attn.v", qRows + kvRows, kvRows);
  part.o = {model.weight("attn.o", "norm_attn_norm.attn.out_proj.weight", {hidden, qRows})};
  return groupedAttention(model, x, part);
}

static Value buildFeedForward(ModelBuilder &model, const DbrxConfig &config,
                              moe::RoutingAttr routing, Value x) {
  const int64_t hidden = config.decoder.hiddenSize, width = config.expertSize;
  Value logits = model.linear(
      x, model.weight("router", "ffn.router.layer.weight", {config.numExperts, hidden}));
  auto expert = [&](const char *name) {
    return ModelBuilder::reshape(
        model.tensor(std::string("ffn.experts.mlp.") + name, {config.numExperts * width, hidden}),
        {config.numExperts, width, hidden});
  };
  GatedWeights experts = {
      .gate = model.define("experts.gate", expert("w1")),
      .up = model.define("experts.up", expert("v1")),
      .down = model.define("experts.down", ModelBuilder::transpose(expert("w2"), {0, 2, 1}))};
  return model.experts(x, model.route(logits, routing), experts, config.activation);
}

LogicalResult importDbrx(ModelBuilder &model) {
  ConfigReader &reader = model.config();
  MLIRContext &context = model.context();
  DbrxConfig config = readDbrxConfig(reader, context);
  const DecoderConfig &decoder = config.decoder;
  moe::RopeAttr rope =
      readRope(reader, context, decoder.headDim, decoder.maxPosition, {.theta = config.theta});
  // Newer configuration classes write a base of their own, and their models rotate by it.
  if (rope && rope.getBase().getValueAsDouble() != config.theta)
    emitWarning(FileLineColLoc::get(&context, model.checkpoint().configPath(), 1, 1))
        << "config.json: attn_config.rope_theta = " << config.theta
        << " differs from rope_theta = " << rope.getBase().getValueAsDouble()
        << " of the rope settings, which is used";
  SpecialTokens tokens = readSpecialTokens(reader, model.checkpoint(), decoder.vocabSize);
  if (failed(model.begin(decoder, config.numExperts, config.topK, std::move(tokens))))
    return failure();

  moe::RoutingAttr routing =
      makeRouting(context, {.topK = config.topK, .renormalize = config.renormalize});
  const int64_t hidden = decoder.hiddenSize;
  auto norm = [&](StringRef symbol, StringRef key) {
    return NormSpec{.weight = model.weight(symbol, (key + ".weight").str(), {hidden}),
                    .eps = decoder.normEps,
                    .kind = moe::NormKind::Layer};
  };
  Value x =
      model.embedding(model.weight("embed", "transformer.wte.weight", {decoder.vocabSize, hidden}));
  for (int64_t layer = 0; layer < decoder.numLayers; ++layer) {
    model.enterLayer(layer, "transformer.blocks." + std::to_string(layer) + ".");
    Value n = model.norm(x, norm("input_norm", "norm_attn_norm.norm_1"));
    x = model.residual(x, buildAttention(model, config, rope, n));
    n = model.norm(x, norm("post_norm", "norm_attn_norm.norm_2"));
    x = model.residual(x, buildFeedForward(model, config, routing, n));
  }
  model.leaveLayers();
  return model.finish(
      x, {.norm = norm("norm", "transformer.norm_f"),
          .weight = model.weight("head", "lm_head.weight", {decoder.vocabSize, hidden})});
}

} // namespace sluice
