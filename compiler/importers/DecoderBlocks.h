//===- DecoderBlocks.h - Parts that many families share -----------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Blocks of the size at which families still agree: grouped attention with its options, a gated
// feed-forward part by the names of its weights. They are made of ModelBuilder's blocks and hold no
// knowledge of any family; what a family does otherwise, it builds itself.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_DECODERBLOCKS_H
#define SLUICE_COMPILER_IMPORTERS_DECODERBLOCKS_H

#include "compiler/importers/ModelBuilder.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace sluice {

/// A product's weight [out, in] and its bias [out], which may be null.
struct Projection {
  mlir::FlatSymbolRefAttr weight = {}, bias = {};
};

/// Grouped attention of one layer, from the normed activations to the output projection.
/// Queries and keys are projected, normalised, clipped, rotated, divided by their length, and
/// queries scaled by their position's temperature; what is not set is left out.
struct GroupedAttention {
  AttentionSpec spec;
  Projection q = {}, k = {}, v = {}, o = {};
  moe::RopeAttr rope = {}; ///< null: positions are not encoded
  moe::QkNorm qkNorm = moe::QkNorm::None;
  mlir::FlatSymbolRefAttr qNorm = {}, kNorm = {}; ///< [head_dim], or the whole projection's width
  double qkNormEps = 0;
  double clip = 0;                                   ///< of queries, keys and values; 0 = none
  double temperatureScale = 0, temperatureFloor = 0; ///< floor 0 = no temperature
};

/// Heads of the configuration's sizes, scores divided by the root of a head's size.
AttentionSpec groupedSpec(const DecoderConfig &config);

/// Sets q, k, v and o to the weights `<prefix>q_proj`, ... as most families name them. `hidden` is
/// the width of the layer's input and output.
void readProjections(ModelBuilder &model, GroupedAttention &attention, int64_t hidden, bool qkvBias,
                     bool outBias, llvm::StringRef prefix = "self_attn.");

/// Sets the norms of queries and keys to `<prefix>q_norm` and `<prefix>k_norm`: per head or over
/// the whole projection.
void readQkNorms(ModelBuilder &model, GroupedAttention &attention, moe::QkNorm kind, double eps,
                 llvm::StringRef prefix = "self_attn.");

mlir::Value groupedAttention(ModelBuilder &model, mlir::Value x, const GroupedAttention &attention);

/// A decoder of layers that normalise before attention and before their feed-forward part and add
/// the results to what went in. Keys are `<prefix>embed_tokens`, `<prefix>layers.N.*` with
/// input_layernorm and post_attention_layernorm, `<prefix>norm` and lm_head.
struct PreNormDecoder {
  std::string prefix = "model.";
  std::string headKey = "lm_head"; ///< not used when the embeddings are tied
  moe::NormKind normKind = moe::NormKind::Rms;
  bool normBias = false; ///< norms have a bias (kind layer)
  bool headBias = false;
  double embeddingMultiplier = 1, residualMultiplier = 1, logitScale = 1;
  /// The layer's attention of its normed input, with the output projection.
  llvm::function_ref<mlir::Value(int64_t layer, mlir::Value x)> attention;
  /// The layer's feed-forward part of its normed input.
  llvm::function_ref<mlir::Value(int64_t layer, mlir::Value x)> feedForward;
};

/// Builds all of the model, after begin(), up to finish().
mlir::LogicalResult buildPreNormDecoder(ModelBuilder &model, const DecoderConfig &config,
                                        const PreNormDecoder &decoder);

/// A routing rule, by default softmax over all experts without renormalisation.
struct RoutingRule {
  moe::ScoreFunction score = moe::ScoreFunction::Softmax;
  int64_t topK = 0;
  bool scoreFirst = true; ///< scores over all experts; otherwise over the chosen ones
  bool renormalize = false;
  double epsilon = 0, scale = 1;
  int64_t groups = 1, topkGroup = 1;
  moe::GroupScore groupScore = moe::GroupScore::None;
  bool sparseMixer = false;
  double jitter = 0;
};
/// Reads n_group and topk_group (default 1 each): experts are chosen from the best groups only.
void readGroups(ConfigReader &config, int64_t numExperts, moe::GroupScore score, RoutingRule &rule);
moe::RoutingAttr makeRouting(mlir::MLIRContext &context, const RoutingRule &rule);

/// Leaves out the layers from `numLayers` on that predict further tokens, with a remark.
void ignoreNextTokenLayers(ModelBuilder &model, int64_t numLayers);

/// What a family calls the three weights of a gated feed-forward part, without ".weight".
struct GatedNames {
  llvm::StringRef gate = "gate_proj", up = "up_proj", down = "down_proj";
};

/// A dense part of inner width `width`: keys `<prefix><name>.weight` (and `.bias`), symbols
/// `<symbol>.gate`, ...
GatedWeights readFfn(ModelBuilder &model, llvm::StringRef symbol, llvm::StringRef prefix,
                     int64_t width, int64_t hidden, const GatedNames &names = {},
                     bool biases = false);

/// `count` experts of inner width `width`, one tensor each: `{}` in `pattern` is the index; symbols
/// `experts.gate`, ...
GatedWeights readExperts(ModelBuilder &model, llvm::StringRef pattern, int64_t count, int64_t width,
                         int64_t hidden, const GatedNames &names = {});

/// Routed experts whose router is one weight and whose experts are tensors of their own.
struct RoutedExperts {
  int64_t count = 0, width = 0; ///< experts, and the inner width of one
  moe::RoutingAttr routing;
  moe::ActivationAttr activation;
  std::string routerKey = "mlp.gate.weight"; ///< [count, hidden]
  std::string correctionKey = "";            ///< [count]; empty = choices are not corrected
  std::string expertPattern = "mlp.experts.{}.";
  GatedNames names = {};
};
mlir::Value routedExperts(ModelBuilder &model, mlir::Value x, int64_t hidden,
                          const RoutedExperts &experts);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_DECODERBLOCKS_H
