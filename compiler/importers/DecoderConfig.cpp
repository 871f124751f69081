//===- DecoderConfig.cpp - Settings that most decoders share ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Defaults are only given to settings whose absence means the same in every family. Hugging Face's
// configuration classes default everything, differently per family, but write what matters: a
// missing size is a damaged configuration, not a request for a default.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderConfig.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSwitch.h"

#include <cmath>

using namespace mlir;

namespace sluice {

DecoderConfig readDecoderConfig(ConfigReader &config, const DecoderDefaults &defaults) {
  DecoderConfig result;
  result.vocabSize = config.getSize("vocab_size");
  result.hiddenSize = config.getSize("hidden_size");
  result.numLayers = config.getSize("num_hidden_layers");
  result.maxPosition = config.getSize("max_position_embeddings");
  result.numHeads = config.getSize("num_attention_heads");
  result.numKvHeads = defaults.kvHeadsOfHeads
                          ? config.getSizeOr("num_key_value_heads", result.numHeads)
                          : config.getSize("num_key_value_heads");
  if (defaults.ownHeadSizes)
    config.ignore("head_dim");
  else if (config.has("head_dim") || result.hiddenSize % result.numHeads == 0)
    result.headDim = config.getSizeOr("head_dim", result.hiddenSize / result.numHeads);
  else if (!config.failed())
    config.error("num_attention_heads", std::to_string(result.numHeads) +
                                            " does not divide hidden_size " +
                                            std::to_string(result.hiddenSize) + "; give head_dim");
  if (!config.failed() && result.numHeads % result.numKvHeads != 0)
    config.error("num_key_value_heads", std::to_string(result.numKvHeads) +
                                            " does not divide num_attention_heads " +
                                            std::to_string(result.numHeads));
  size_t before = config.problems().size();
  result.normEps = config.getDouble("rms_norm_eps");
  if (config.problems().size() == before && !(result.normEps > 0))
    config.error("rms_norm_eps", "expected a positive number");
  result.tiedEmbeddings = config.getBoolOr("tie_word_embeddings", defaults.tiedEmbeddings);
  return result;
}

moe::ActivationAttr readActivation(ConfigReader &config, MLIRContext &context,
                                   std::string_view key) {
  size_t before = config.problems().size();
  std::string name = config.getString(key);
  if (config.problems().size() != before)
    return {};
  auto kind = llvm::StringSwitch<std::optional<moe::ActivationKind>>(name)
                  .Cases({"silu", "swish"}, moe::ActivationKind::Silu)
                  .Case("gelu", moe::ActivationKind::Gelu)
                  .Cases({"gelu_new", "gelu_pytorch_tanh"}, moe::ActivationKind::GeluTanh)
                  .Case("relu", moe::ActivationKind::Relu)
                  .Default(std::nullopt);
  if (!kind) {
    config.error(key, "activation \"" + name +
                          "\" is not supported; supported are silu, gelu, gelu_pytorch_tanh and "
                          "relu");
    return {};
  }
  return moe::ActivationAttr::get(&context, *kind, /*alpha=*/1.0, /*limit=*/0.0);
}

std::vector<LayerAttention> readLayerTypes(ConfigReader &config, int64_t numLayers,
                                           llvm::function_ref<LayerAttention(int64_t)> byDefault) {
  std::vector<LayerAttention> types;
  if (!config.has("layer_types")) {
    config.ignore("layer_types");
    for (int64_t layer = 0; layer < numLayers; ++layer)
      types.push_back(byDefault(layer));
    return types;
  }
  std::vector<std::string> names = config.getStrings("layer_types");
  if (config.failed())
    return types;
  if (int64_t(names.size()) != numLayers)
    config.error("layer_types", std::to_string(names.size()) +
                                    " entries, expected one for each of " +
                                    std::to_string(numLayers) + " layers");
  for (const std::string &name : names) {
    auto type = llvm::StringSwitch<std::optional<LayerAttention>>(name)
                    .Case("full_attention", LayerAttention::Full)
                    .Case("sliding_attention", LayerAttention::Sliding)
                    .Case("chunked_attention", LayerAttention::Chunked)
                    .Default(std::nullopt);
    if (!type) {
      config.error("layer_types", "attention \"" + name +
                                      "\" is not supported; supported are full_attention, "
                                      "sliding_attention and chunked_attention");
      return {};
    }
    types.push_back(*type);
  }
  return types;
}

std::vector<bool> readSparseLayers(ConfigReader &config, int64_t numLayers) {
  int64_t step = config.getSizeOr("decoder_sparse_step", 1);
  std::vector<int64_t> dense;
  if (config.has("mlp_only_layers"))
    dense = config.getInts("mlp_only_layers");
  else
    config.ignore("mlp_only_layers");
  std::vector<bool> sparse(numLayers);
  for (int64_t layer = 0; layer < numLayers; ++layer)
    sparse[layer] = (layer + 1) % step == 0;
  for (int64_t layer : dense)
    if (layer >= 0 && layer < numLayers)
      sparse[layer] = false;
  if (!config.failed() && llvm::none_of(sparse, [](bool value) { return value; }))
    config.error(dense.empty() ? "decoder_sparse_step" : "mlp_only_layers",
                 "no layer routes to experts; this is not a Mixture-of-Experts model");
  return sparse;
}

int64_t readFirstSparseLayer(ConfigReader &config, int64_t numLayers, int64_t fallback) {
  int64_t first = config.getIntOr("first_k_dense_replace", fallback);
  if (!config.failed() && (first < 0 || first >= numLayers))
    config.error("first_k_dense_replace", std::to_string(first) + " is outside 0 to " +
                                              std::to_string(numLayers - 1) +
                                              "; at least the last layer routes to experts");
  return first;
}

void checkWindows(ConfigReader &config, const std::vector<LayerAttention> &types, int64_t window) {
  if (!config.failed() && window <= 0 && llvm::is_contained(types, LayerAttention::Sliding))
    config.error("layer_types", "sliding_attention needs a sliding_window of at least 1");
}

int64_t readEitherSize(ConfigReader &config, std::string_view key, std::string_view otherKey) {
  if (!config.has(key) && config.has(otherKey)) {
    config.ignore(key);
    return config.getSize(otherKey);
  }
  int64_t size = config.getSize(key);
  if (config.getSizeOr(otherKey, size) != size)
    config.error(otherKey, "contradicts " + std::string(key) + " " + std::to_string(size));
  return size;
}

double readClip(ConfigReader &config, std::string_view key) {
  double limit = config.getDoubleOr(key, 0);
  if (config.has(key) && !config.failed() && !(limit > 0 && std::isfinite(limit)))
    config.error(key, "expected a positive number, or null for no limit");
  return limit;
}

double readMultiplier(ConfigReader &config, std::string_view key) {
  double factor = config.getDoubleOr(key, 1);
  if (!config.failed() && (factor == 0 || !std::isfinite(factor)))
    config.error(key, "expected a finite number other than 0");
  return factor;
}

/// Ids under `key` of `reader`: a number or a list of numbers.
static std::vector<int64_t> readIds(ConfigReader &reader, std::string_view key, int64_t vocabSize) {
  std::vector<int64_t> ids;
  const json::Value *value = reader.value().find(key);
  if (value && value->isArray())
    ids = reader.getInts(key);
  else
    ids = {reader.getInt(key)};
  for (int64_t id : ids)
    if (!reader.failed() && (id < 0 || id >= vocabSize)) {
      reader.error(key, std::to_string(id) + " is outside the vocabulary of " +
                            std::to_string(vocabSize) + " tokens");
      break;
    }
  return ids;
}

SpecialTokens readSpecialTokens(ConfigReader &config, const Checkpoint &checkpoint,
                                int64_t vocabSize) {
  SpecialTokens tokens;
  ConfigReader generation(checkpoint.generationConfig(), "generation_config.json");
  auto read = [&](std::string_view key) -> std::vector<int64_t> {
    config.ignore(key);
    if (generation.has(key))
      return readIds(generation, key, vocabSize);
    if (config.has(key))
      return readIds(config, key, vocabSize);
    return {};
  };
  tokens.eos = read("eos_token_id");
  if (std::vector<int64_t> bos = read("bos_token_id"); !bos.empty())
    tokens.bos = bos.front();
  config.adopt(generation);
  return tokens;
}

} // namespace sluice
