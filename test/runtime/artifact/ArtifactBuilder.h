//===- ArtifactBuilder.h - Tiny models as artifacts, for tests --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Tests of the loader and the engine need artifacts that are right, to damage or run them. This
// builds the plan of a small MoE transformer by hand, without the compiler: sizes come from the
// kernel families' own table, weights are a fixed pseudo-random sequence in float32, and the arena
// is not packed. On several ranks the model is the same: each holds a part of the width of its
// group's experts, and each data parallel group runs the attention of its own sequences.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_ARTIFACT_ARTIFACTBUILDER_H
#define SLUICE_TEST_RUNTIME_ARTIFACT_ARTIFACTBUILDER_H

#include "runtime/artifact/ArtifactWriter.h"
#include "runtime/artifact/plan.pb.h"
#include "sluice/status.h"

#include <string>
#include <string_view>
#include <vector>

namespace sluice::test {

/// Dimensions are multiples of 16, so that packed weights have no padding rows.
struct TinyShape {
  int layers = 1; ///< 0: embedding, logits and sampling only
  int vocab = 64, hidden = 32, heads = 2, kvHeads = 1, headDim = 16;
  int experts = 4, topK = 2, expertWidth = 16;
  int maxBatchTokens = 16, maxSeqs = 4, maxSeqLen = 48, maxLogitRows = 16;
  int pageSize = 4, numPages = 24;
  std::vector<int> buckets = {1, 4, 16};
  bool latent = false; ///< latent attention with latents, parts and values of headDim entries
  int ranks = 1;
  int ep = 1; ///< groups of whole experts; expertWidth is a multiple of 16 * ranks / ep
  int dp = 1; ///< data parallel groups; divides ranks
};

/// The weights of one rank.
struct TinyWeights {
  std::vector<WeightDeclaration> declarations;
  std::vector<std::vector<float>> values; ///< by declaration
};

/// A plan with the weights it names.
struct TinyModel {
  proto::Plan plan;
  std::vector<TinyWeights> weights; ///< by rank
};

TinyModel makeTinyModel(const TinyShape &shape = {});

/// Writes the model as an artifact with a report and a tokenizer file.
Status writeArtifact(const std::string &path, const TinyModel &model,
                     std::string_view tokenizerJson = "{}\n");

} // namespace sluice::test

#endif // SLUICE_TEST_RUNTIME_ARTIFACT_ARTIFACTBUILDER_H
