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

/// Reads vocab_size, hidden_size, num_hidden_layers, max_position_embeddings, num_attention_heads,
/// num_key_value_heads, head_dim (default hidden_size / num_attention_heads), rms_norm_eps and
/// tie_word_embeddings (default false).
DecoderConfig readDecoderConfig(ConfigReader &config);

/// Reads hidden_act; null after an error.
moe::ActivationAttr readActivation(ConfigReader &config, mlir::MLIRContext &context);

/// Reads the rotary embedding of heads of `headDim` entries: rope_parameters of newer
/// configurations, or rope_theta, rope_scaling and partial_rotary_factor of older ones. The scaling
/// dictionary keeps the checkpoint's keys (numbers as f64, original_max_position_embeddings as i64,
/// lists as arrays of f64) and gains max_position_embeddings, which several rules need. Null after
/// an error.
moe::RopeAttr readRope(ConfigReader &config, mlir::MLIRContext &context, int64_t headDim,
                       int64_t maxPosition);

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
