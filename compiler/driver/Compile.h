//===- Compile.h - From a checkpoint to an artifact ---------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The whole compilation behind one call, without MLIR in its interface: what sluice-compile runs,
// and what a program that compiles checkpoints itself would call.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_DRIVER_COMPILE_H
#define SLUICE_COMPILER_DRIVER_COMPILE_H

#include "sluice/status.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace sluice {

/// What to compile and how. Zero means: let the compiler choose.
struct CompileOptions {
  std::string model;      ///< checkpoint folder, or a .mlir file at any phase
  std::string output;     ///< artifact folder; unused when compileTo stops before `artifact`
  std::string checkpoint; ///< folder of the weights when `model` is a .mlir file
  std::string target = "host";
  std::string weights = "checkpoint"; ///< "checkpoint", or "synthetic" (config.json alone suffices)
  /// keep, bf16, f16 or f32, and rules FORMAT[:SCOPE+SCOPE], separated by commas.
  std::string quantize = "keep";
  std::vector<std::string> quantizeExclude; ///< patterns of weight names that stay as they are
  bool quantizeSkipUnfit = false;           ///< keep matrices that a format cannot take
  std::string activations = "f32";          ///< what fp8 weights are multiplied with: f32 or fp8
  std::string qualityReport;                ///< JSON for the report's "quality"; empty = none
  std::string kvType = "f32";               ///< element type of the KV cache: f32, bf16 or f16
  std::string compileTo = "artifact";       ///< last phase
  std::string dumpPhasesTo;                 ///< folder for one .mlir per phase; empty = none
  std::string report;                       ///< also write the report here
  std::vector<int64_t> buckets;             ///< token counts of the programs
  int64_t ranks = 1;
  int64_t tp = 0;                         ///< ranks that split every expert of a group
  int64_t ep = 0;                         ///< expert groups
  int64_t dp = 1;                         ///< data parallel groups of attention
  int64_t slots = 0;                      ///< expert slots of a layer, over all groups
  std::vector<std::string> profiles;      ///< expert loads that placements are made for
  std::string placementPhase = "prefill"; ///< what placements balance: prefill or decode
  int64_t maxBatchTokens = 0, maxSeqs = 0, maxSeqLen = 0, maxLogitRows = 0;
  int64_t pageSize = 0, numPages = 0;
};

/// How a compilation talks to its user; either may be empty.
struct CompileHooks {
  /// `done` of `total` units of a stage are finished.
  std::function<void(const std::string &stage, uint64_t done, uint64_t total)> progress;
  /// One formatted diagnostic ("error: ...", with its notes), as it happens.
  std::function<void(const std::string &text)> diagnostic;
  /// The module as text, when compileTo stops before `artifact`.
  std::function<void(const std::string &text)> module;
};

/// Compiles. Errors in the input are reported as diagnostics and summed up in the returned status;
/// nothing is left behind in `output` then. Not reentrant with the same `output`.
Status compileModel(const CompileOptions &options, const CompileHooks &hooks);

/// Phases that `compileTo` takes, in order.
std::vector<std::string> listPhases();
/// Families the importers know, one line each: name, architectures; then the stored formats.
std::vector<std::string> listModels();
/// Targets that plans can be made for.
std::vector<std::string> listTargets();
/// Kernel families of the host with their arguments.
std::vector<std::string> listKernels();

} // namespace sluice

#endif // SLUICE_COMPILER_DRIVER_COMPILE_H
