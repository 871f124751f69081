//===- LatentBlocks.h - What DeepSeek-like families share ---------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Multi-head latent attention and the feed-forward parts beside it, as DeepSeek-V2, DeepSeek-V3 and
// the families built on their graph have them: some dense layers first, then routed experts with
// shared ones. The graph and its keys are here; a family says which routing rules it knows and what
// the absence of a key means.
// Source: modeling_deepseek_v2.py and modeling_deepseek_v3.py of Hugging Face transformers and the
// publisher's modeling_deepseek.py.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_LATENTBLOCKS_H
#define SLUICE_COMPILER_IMPORTERS_LATENTBLOCKS_H

#include "compiler/importers/DecoderBlocks.h"

namespace sluice {

/// The sizes of the decoder around latent attention, whose heads have sizes of their own.
DecoderConfig readLatentDecoderConfig(ConfigReader &config);

/// Sizes and options of a decoder's latent attention; the same in every layer.
struct LatentAttention {
  LatentAttentionSpec spec;
  int64_t queryRank = 0; ///< width of the queries' own latent; 0 = projected directly
  bool bias = false;     ///< of the projections to latents and of the output
  moe::RopeAttr queryRope = {}, keyRope = {};
  double temperatureScale = 0, temperatureFloor = 0; ///< floor 0 = no temperature
};

/// Reads q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, attention_bias
/// and the rotation. YaRN's mscale_all_dim multiplies the scores by its square. num_key_value_heads
/// must be the number of heads, since all of them come from one latent.
LatentAttention readLatentAttention(ConfigReader &config, mlir::MLIRContext &context,
                                    const DecoderConfig &decoder, bool interleaved);

/// Attention of a layer's normed activations, with the output projection.
mlir::Value latentAttention(ModelBuilder &model, mlir::Value x, const LatentAttention &attention,
                            int64_t hidden);

/// Sizes and rules of the feed-forward parts.
struct DeepseekExperts {
  int64_t numExperts = 1, expertSize = 1, sharedExperts = 0, denseSize = 1;
  int64_t firstSparse = 0, sparseStep = 1; ///< layers from the first on, if the step divides them
  RoutingRule rule;
  bool correction = false; ///< a bias per expert for the choice
  bool denseBias = false;  ///< of dense layers and shared experts

  bool isSparse(int64_t layer) const { return layer >= firstSparse && layer % sparseStep == 0; }
};

/// Reads the sizes, first_k_dense_replace (default `firstSparse`), moe_layer_freq,
/// num_experts_per_tok and routed_scaling_factor; the rest of the rule is the family's.
DeepseekExperts readDeepseekExperts(ConfigReader &config, const DecoderConfig &decoder,
                                    int64_t firstSparse);

/// Reads n_group and topk_group, which must be there, for groups that are ranked by the sum of
/// their two best experts.
void readTopTwoGroups(ConfigReader &config, DeepseekExperts &experts);

/// The feed-forward part of a layer's normed activations.
mlir::Value deepseekFeedForward(ModelBuilder &model, mlir::Value x, int64_t layer, int64_t hidden,
                                const DeepseekExperts &experts, moe::ActivationAttr activation);

/// Reads what is left, checks the configuration and builds the model.
mlir::LogicalResult buildDeepseekDecoder(ModelBuilder &model, const DecoderConfig &decoder,
                                         const LatentAttention &attention,
                                         const DeepseekExperts &experts);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_LATENTBLOCKS_H
