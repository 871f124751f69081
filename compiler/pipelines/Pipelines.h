//===- Pipelines.h - Table of contents of the compiler ------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Which passes make up which phase. sluice-compile runs the phases one after the other; sluice-opt
// registers each of them as a pipeline, so that any stretch of a compilation can be repeated by
// hand.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PIPELINES_PIPELINES_H
#define SLUICE_COMPILER_PIPELINES_PIPELINES_H

#include "passes/Quantize/QuantizeRules.h"
#include "passes/Verify/Phases.h"

#include "mlir/Pass/PassManager.h"

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

/// What the passes of all phases need to know; defaults are those of sluice-compile.
struct PhaseOptions {
  QuantizeChoice weights;                   ///< formats of weights; the pass takes their names
  std::vector<std::string> quantizeExclude; ///< patterns of weight names that stay as they are
  bool quantizeSkipUnfit = false;           ///< keep matrices that a format cannot take
  std::string activations = "f32";          ///< f32 or fp8
  /// As in --sluice-parallelize-model: 0 = follows from the others.
  int64_t ranks = 1, tp = 0, ep = 0, dp = 1;
  /// As in --sluice-place-experts: 0 = one slot per expert; empty = no profile.
  int64_t slots = 0;
  std::vector<std::string> profiles;
  std::string placementPhase = "prefill";
  std::vector<int64_t> buckets; ///< token counts; empty = chosen by the compiler
};

/// Appends the passes that lead from the phase before `phase` to `phase`, ending with the check of
/// its invariants.
void buildPhasePipeline(mlir::OpPassManager &pm, Phase phase, const PhaseOptions &options);

/// Registers `sluice-to-<phase>` for every phase: all passes from `input` up to it.
void registerPhasePipelines();

} // namespace sluice

#endif // SLUICE_COMPILER_PIPELINES_PIPELINES_H
