//===- DecoderConfig.h - Settings that most decoders share --------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Families name most of their settings alike, and differ in when. Each function here reads one
// group of keys in its old and new spellings; a family calls those that apply to it. All of them
// record their errors in the ConfigReader.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_DECODERCONFIG_H
#define SLUICE_COMPILER_IMPORTERS_DECODERCONFIG_H

#include "compiler/importers/checkpoint/Checkpoint.h"
#include "compiler/importers/checkpoint/ConfigReader.h"
#include "dialects/Moe/Moe.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <cstdint>
#include <vector>

namespace sluice {

/// Sizes of a decoder with grouped attention.
struct DecoderConfig {
  int64_t vocabSize = 1, hiddenSize = 1, numLayers = 1, maxPosition = 1;
  int64_t numHeads = 1, numKvHeads = 1, headDim = 1;
  double normEps = 0;
  bool tiedEmbeddings = false; ///< the head is the embedding table
};

/// What the absence of a key means where families differ: their configuration classes' defaults.
struct DecoderDefaults {
  bool kvHeadsOfHeads = false; ///< num_key_value_heads may be absent: as many as heads
  bool tiedEmbeddings = false;
  bool ownHeadSizes = false; ///< head_dim plays no part: heads are made of parts with own sizes
};

/// Reads vocab_size, hidden_size, num_hidden_layers, max_position_embeddings, num_attention_heads,
/// num_key_value_heads, head_dim (default hidden_size / num_attention_heads), rms_norm_eps and
/// tie_word_embeddings.
DecoderConfig readDecoderConfig(ConfigReader &config, const DecoderDefaults &defaults = {});

/// Reads the activation's name; null after an error.
moe::ActivationAttr readActivation(ConfigReader &config, mlir::MLIRContext &context,
                                   std::string_view key = "hidden_act");

/// How a family rotates.
struct RopeOptions {
  double theta = 0;         ///< the base when no key gives it; 0 = a key must
  double partialFactor = 1; ///< the part of a head that rotates when no key says so
  bool interleaved = false; ///< pairs (2i, 2i + 1) instead of halves
  int64_t offset = 0;       ///< entries of a head before the rotated part
};

/// Reads the rotary embedding of heads of `headDim` entries: rope_parameters of newer
/// configurations, or rope_theta, rope_scaling and partial_rotary_factor of older ones. The scaling
/// dictionary keeps the checkpoint's keys (numbers as f64, original_max_position_embeddings as i64,
/// lists as arrays of f64) and gains max_position_embeddings, which several rules need. Null after
/// an error.
moe::RopeAttr readRope(ConfigReader &config, mlir::MLIRContext &context, int64_t headDim,
                       int64_t maxPosition, const RopeOptions &options = {});

/// Which layers attend to a window of positions, or to their chunk, instead of all.
enum class LayerAttention { Full, Sliding, Chunked };

/// Reads layer_types, one name per layer; `byDefault` decides where the key is absent. Nothing is
/// returned for layers after an error.
std::vector<LayerAttention>
readLayerTypes(ConfigReader &config, int64_t numLayers,
               llvm::function_ref<LayerAttention(int64_t layer)> byDefault);

/// Reads decoder_sparse_step (default 1) and mlp_only_layers (default none): whether each layer
/// routes to experts. Every step-th layer does, counted from 1, unless it is listed.
std::vector<bool> readSparseLayers(ConfigReader &config, int64_t numLayers);

/// Reads first_k_dense_replace (default `fallback`): the layers before it are dense.
int64_t readFirstSparseLayer(ConfigReader &config, int64_t numLayers, int64_t fallback);

/// Reports a sliding layer without a window (0) to slide.
void checkWindows(ConfigReader &config, const std::vector<LayerAttention> &types, int64_t window);

/// Reads a size that goes by two names, of which the first wins; they must not contradict.
int64_t readEitherSize(ConfigReader &config, std::string_view key, std::string_view otherKey);

/// Reads a limit for values: positive, or 0 when absent.
double readClip(ConfigReader &config, std::string_view key);

/// Reads a factor, by default 1: finite and not 0.
double readMultiplier(ConfigReader &config, std::string_view key);

/// Tokens that end a sequence, and the one that begins it (-1 when there is none).
struct SpecialTokens {
  std::vector<int64_t> eos;
  int64_t bos = -1;
};

/// Reads eos_token_id (a number or a list) and bos_token_id. generation_config.json overrides
/// config.json, as in Hugging Face's generate().
SpecialTokens readSpecialTokens(ConfigReader &config, const Checkpoint &checkpoint,
                                int64_t vocabSize);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_DECODERCONFIG_H
