//===- Pipelines.cpp - Table of contents of the compiler --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/pipelines/Pipelines.h"

#include "passes/Passes.h"

#include "mlir/Pass/PassOptions.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace sluice {

void buildPhasePipeline(OpPassManager &pm, Phase phase, const PhaseOptions &options) {
  switch (phase) {
  case Phase::Input:
    break;
  case Phase::Normalized:
    // Equal computations that importers state twice; before weights are unified so that both
    // see the same operations.
    pm.addPass(createCSEPass());
    pm.addPass(createNormalizeModel());
    break;
  case Phase::Quantized:
    // Conversion first: numbers of a quantised checkpoint can be rounded again.
    pm.addPass(createConvertWeights({options.weights.numbers}));
    if (!options.weights.rules.empty() || options.activations != "f32") {
      QuantizeWeightsOptions quantize;
      quantize.rules.assign(options.weights.rules.begin(), options.weights.rules.end());
      quantize.exclude.assign(options.quantizeExclude.begin(), options.quantizeExclude.end());
      quantize.skipUnfit = options.quantizeSkipUnfit;
      quantize.activations = options.activations;
      pm.addPass(createQuantizeWeights(quantize));
    }
    break;
  case Phase::Placed: {
    // How many groups there are comes before what each of them holds.
    pm.addPass(createParallelizeModel({options.ranks, options.tp, options.ep, options.dp}));
    PlaceExpertsOptions placement;
    placement.slots = options.slots;
    placement.profiles.assign(options.profiles.begin(), options.profiles.end());
    placement.phase = options.placementPhase;
    pm.addPass(createPlaceExperts(placement));
    break;
  }
  case Phase::Fused:
    // Norms first: q/k/v fusion looks at the norm inside its chains, never at the layer's own.
    pm.addPass(createFuseResidualNorm());
    pm.addPass(createFuseQkv());
    pm.addPass(createFuseLatentAttention());
    // The router before the experts: it makes the order that they walk.
    pm.addPass(createFuseRouter());
    pm.addPass(createFuseExperts());
    // Merged weights leave their parts behind.
    pm.addPass(createNormalizeModel());
    break;
  case Phase::Partitioned:
    pm.addPass(createPartitionRanks());
    break;
  case Phase::Planned: {
    ChooseBucketsOptions buckets;
    buckets.buckets.assign(options.buckets.begin(), options.buckets.end());
    pm.addPass(createChooseBuckets(buckets));
    pm.addPass(createLowerMoeToPlan());
    pm.addPass(createPackMemory());
    break;
  }
  }
  pm.addPass(createVerifyPhase({phaseName(phase).str()}));
}

namespace {
struct PipelineOptions : PassPipelineOptions<PipelineOptions> {
  Option<std::string> format{*this, "format",
                             llvm::cl::desc("weight format: keep, bf16, f16 or f32"),
                             llvm::cl::init("keep")};
  Option<int64_t> ranks{*this, "ranks", llvm::cl::desc("number of ranks"), llvm::cl::init(1)};
  Option<int64_t> tp{*this, "tp", llvm::cl::desc("ranks that split every expert of a group"),
                     llvm::cl::init(0)};
  Option<int64_t> ep{*this, "ep", llvm::cl::desc("expert groups"), llvm::cl::init(0)};
  Option<int64_t> dp{*this, "dp", llvm::cl::desc("data parallel groups of attention"),
                     llvm::cl::init(1)};
  Option<int64_t> slots{*this, "slots", llvm::cl::desc("expert slots of a layer"),
                        llvm::cl::init(0)};
  ListOption<std::string> profiles{*this, "profiles", llvm::cl::desc("profile files")};
  Option<std::string> placementPhase{*this, "placement-phase",
                                     llvm::cl::desc("what placements balance: prefill or decode"),
                                     llvm::cl::init("prefill")};
  ListOption<int64_t> buckets{*this, "buckets",
                              llvm::cl::desc("token counts of the buckets, comma-separated")};
};
} // namespace

void registerPhasePipelines() {
  for (StringRef name : allPhaseNames()) {
    Phase last = *parsePhase(name);
    // The registry keeps references to nothing: PassPipelineRegistration copies its arguments.
    PassPipelineRegistration<PipelineOptions>(
        ("sluice-to-" + name).str(), ("all phases from input to " + name).str(),
        [last](OpPassManager &pm, const PipelineOptions &options) {
          PhaseOptions phaseOptions;
          phaseOptions.weights.numbers = options.format;
          phaseOptions.ranks = options.ranks;
          phaseOptions.tp = options.tp;
          phaseOptions.ep = options.ep;
          phaseOptions.dp = options.dp;
          phaseOptions.slots = options.slots;
          phaseOptions.profiles.assign(options.profiles.begin(), options.profiles.end());
          phaseOptions.placementPhase = options.placementPhase;
          phaseOptions.buckets.assign(options.buckets.begin(), options.buckets.end());
          for (int phase = 0; phase <= int(last); ++phase)
            buildPhasePipeline(pm, Phase(phase), phaseOptions);
        });
  }
}

} // namespace sluice
