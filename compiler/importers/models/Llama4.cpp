//===- Llama4.cpp - The text model of the Llama 4 family --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Most layers rotate queries and keys, divide them by their root mean square and attend to their
// own chunk of positions; the others do not encode positions, attend to all and scale queries by a
// temperature that grows with the position. Some layers are dense; the others add a shared expert
// and routed ones whose input, not output, is multiplied by the sigmoid of the router's logit.
// Checkpoints of Llama4ForConditionalGeneration hold the text model under a prefix, beside a vision
// model, which is left out.
// Source: modeling_llama4.py and configuration_llama4.py of Hugging Face transformers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"
#include "compiler/importers/models/Families.h"

using namespace mlir;

namespace sluice {

namespace {
/// What only this family's configuration says.
struct Llama4Config {
  std::vector<bool> rotates; ///< whether a layer encodes positions
  std::vector<bool> sparse;  ///< whether a layer routes to experts
  std::vector<LayerAttention> layerTypes;
  int64_t chunk = 0;
  bool qkNorm = false;
  double temperatureScale = 0, temperatureFloor = 0; ///< floor 0 = no temperature
};
} // namespace

/// no_rope_layers, one number per layer and possibly more, 0 where positions are not encoded; by
/// default every no_rope_layer_interval-th layer, counted from 1.
static std::vector<bool> readRotatingLayers(ConfigReader &config, int64_t numLayers) {
  int64_t interval = config.getSizeOr("no_rope_layer_interval", 4);
  std::vector<int64_t> flags;
  if (config.has("no_rope_layers"))
    flags = config.getInts("no_rope_layers");
  else
    config.ignore("no_rope_layers");
  std::vector<bool> rotates(numLayers);
  if (!flags.empty() && int64_t(flags.size()) < numLayers && !config.failed()) {
    config.error("no_rope_layers", std::to_string(flags.size()) +
                                       " entries, expected one for each " + "of " +
                                       std::to_string(numLayers) + " layers");
    return rotates;
  }
  for (int64_t layer = 0; layer < numLayers; ++layer)
    rotates[layer] = flags.empty() ? (layer + 1) % interval != 0 : flags[layer] != 0;
  return rotates;
}

/// moe_layers, the numbers of the layers that route; by default every
/// interleave_moe_layer_step-th, counted from 1.
static std::vector<bool> readRoutingLayers(ConfigReader &config, int64_t numLayers) {
  int64_t step = config.getSizeOr("interleave_moe_layer_step", 1);
  std::vector<bool> sparse(numLayers);
  if (config.has("moe_layers")) {
    for (int64_t layer : config.getInts("moe_layers"))
      if (layer >= 0 && layer < numLayers)
        sparse[layer] = true;
  } else {
    config.ignore("moe_layers");
    for (int64_t layer = step - 1; layer < numLayers; layer += step)
      sparse[layer] = true;
  }
  if (!config.failed() && !llvm::is_contained(sparse, true))
    config.error(config.has("moe_layers") ? "moe_layers" : "interleave_moe_layer_step",
                 "no layer routes to experts; this is not a Mixture-of-Experts model");
  return sparse;
}

/// attn_temperature_tuning is a bool, or a number that older files write for one.
static bool readTemperatureSwitch(ConfigReader &config) {
  const json::Value *value = config.value().find("attn_temperature_tuning");
  if (value && value->isInt())
    return config.getInt("attn_temperature_tuning") != 0;
  return config.getBoolOr("attn_temperature_tuning", true);
}

static Llama4Config readLlama4Config(ConfigReader &config, int64_t numLayers) {
  Llama4Config result;
  result.rotates = readRotatingLayers(config, numLayers);
  result.sparse = readRoutingLayers(config, numLayers);
  result.layerTypes = readLayerTypes(config, numLayers, [&](int64_t layer) {
    return result.rotates[layer] ? LayerAttention::Chunked : LayerAttention::Full;
  });
  if (llvm::is_contained(result.layerTypes, LayerAttention::Sliding))
    config.error("layer_types", "sliding_attention does not exist in this family");
  // Null means that there are no chunks, which then no layer may ask for.
  const json::Value *chunk = config.value().find("attention_chunk_size");
  result.chunk = config.getSizeOr("attention_chunk_size", chunk ? 0 : 8192);
  if (!config.failed() && result.chunk == 0 &&
      llvm::is_contained(result.layerTypes, LayerAttention::Chunked))
    config.error("attention_chunk_size", "is null, but layers attend to their chunk of positions");
  result.qkNorm = config.getBoolOr("use_qk_norm", true);
  bool temperature = readTemperatureSwitch(config);
  double scale = config.getDoubleOr("attn_scale", 0.1);
  double floor = config.getDoubleOr("floor_scale", 8192);
  if (!config.failed() && !(floor > 0))
    config.error("floor_scale", "expected a positive number");
  if (temperature) {
    result.temperatureScale = scale;
    result.temperatureFloor = floor;
  }
  return result;
}

/// The reader of the text model's settings: the configuration itself, or its part of one that also
/// has a vision model.
static ConfigReader readTextConfig(ConfigReader &root) {
  if (!root.has("text_config")) {
    root.ignore("text_config");
    if (llvm::is_contained(root.getStrings("architectures"), "Llama4ForConditionalGeneration")) {
      root.error("text_config", "is missing");
      root.ignoreAll();
    }
    return root;
  }
  ConfigReader text = root.getObject("text_config").value_or(root);
  for (const char *key :
       {"vision_config", "boi_token_index", "eoi_token_index", "image_token_index"})
    root.ignore(key);
  if (root.getBoolOr("tie_word_embeddings", false) && !text.failed() &&
      !text.getBoolOr("tie_word_embeddings", false))
    root.error("tie_word_embeddings", "contradicts the value in text_config");
  return text;
}

/// The routed experts: gate_up_proj [E, H, 2 I], gate before up, and down_proj [E, I, H].
/// Quantisers know linear layers only, so they split these into one per expert, gate, up and down.
static GatedWeights readRoutedExperts(ModelBuilder &model, int64_t count, int64_t width,
                                      int64_t hidden) {
  const std::string prefix = "feed_forward.experts.";
  if (model.quantization().isQuantized())
    return readExperts(model, prefix + "{}.", count, width, hidden);
  auto transposed = [](TypedAttr weight) { return ModelBuilder::transpose(weight, {0, 2, 1}); };
  TypedAttr gateUp = model.tensor(prefix + "gate_up_proj", {count, hidden, 2 * width});
  auto part = [&](int64_t begin) {
    return transposed(ModelBuilder::slice(gateUp, /*axis=*/2, begin, width));
  };
  TypedAttr down = model.tensor(prefix + "down_proj", {count, width, hidden});
  return {.gate = model.define("experts.gate", part(0)),
          .up = model.define("experts.up", part(width)),
          .down = model.define("experts.down", transposed(down))};
}

LogicalResult importLlama4(ModelBuilder &model) {
  MLIRContext &context = model.context();
  ConfigReader config = readTextConfig(model.config());
  bool nested = model.config().has("text_config");
  // Its absence means the published models' value, whatever the other sizes are.
  (void)config.getSize("head_dim");
  DecoderConfig decoder = readDecoderConfig(config);
  int64_t numExperts = config.getSize("num_local_experts");
  int64_t topK = config.getSize("num_experts_per_tok");
  int64_t expertSize = config.getSize("intermediate_size");
  int64_t denseSize = config.getSize("intermediate_size_mlp");
  bool bias = config.getBoolOr("attention_bias", false);
  Llama4Config own = readLlama4Config(config, decoder.numLayers);
  moe::ActivationAttr activation = readActivation(config, context);
  moe::RopeAttr rope = readRope(config, context, decoder.headDim, decoder.maxPosition,
                                {.theta = 500000, .interleaved = true});
  SpecialTokens tokens = readSpecialTokens(config, model.checkpoint(), decoder.vocabSize);
  // Noise while training, which kind of cache generate() makes, and a note of a quantizer.
  for (const char *key : {"router_jitter_noise", "cache_implementation", "for_llm_compressor"})
    config.ignore(key);
  if (failed(model.begin(decoder, numExperts, topK, std::move(tokens))))
    return failure();
  if (nested)
    for (const char *pattern : {"vision_model.*", "multi_modal_projector.*"})
      model.ignoreTensors(pattern, "images are not supported, only text");

  const int64_t hidden = decoder.hiddenSize;
  // Sigmoids of distinct logits may be equal, so the logits decide.
  moe::RoutingAttr routing = makeRouting(
      context, {.score = moe::ScoreFunction::Sigmoid, .topK = topK, .scoreFirst = false});
  auto attention = [&](int64_t layer, Value x) {
    GroupedAttention part = {.spec = groupedSpec(decoder)};
    part.spec.chunk = own.layerTypes[layer] == LayerAttention::Chunked ? own.chunk : 0;
    if (own.rotates[layer]) {
      part.rope = rope;
      if (own.qkNorm) {
        part.qkNorm = moe::QkNorm::L2AfterRope;
        part.qkNormEps = decoder.normEps;
      }
    } else {
      part.temperatureScale = own.temperatureScale;
      part.temperatureFloor = own.temperatureFloor;
    }
    readProjections(model, part, hidden, bias, bias);
    return groupedAttention(model, x, part);
  };
  auto feedForward = [&](int64_t layer, Value x) {
    if (!own.sparse[layer])
      return model.ffn(x, readFfn(model, "ffn", "feed_forward.", denseSize, hidden), activation);
    Value logits =
        model.linear(x, model.weight("router", "feed_forward.router.weight", {numExperts, hidden}));
    Value routed =
        model.experts(x, model.route(logits, routing),
                      readRoutedExperts(model, numExperts, expertSize, hidden), activation,
                      /*weightOnInput=*/true);
    Value shared = model.ffn(
        x, readFfn(model, "shared", "feed_forward.shared_expert.", expertSize, hidden), activation);
    return model.residual(routed, shared);
  };
  std::string prefix = nested ? "language_model." : "";
  return buildPreNormDecoder(model, decoder,
                             {.prefix = prefix + "model.",
                              .headKey = prefix + "lm_head",
                              .attention = attention,
                              .feedForward = feedForward});
}

} // namespace sluice
