//===- EmitArtifact.h - Write a planned module as an artifact -----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The end of a compilation: records, weights, tokenizer and report become a directory.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_EMITARTIFACT_H
#define SLUICE_COMPILER_ARTIFACT_EMITARTIFACT_H

#include "compiler/importers/checkpoint/Checkpoint.h"
#include "sluice/status.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <functional>
#include <string>

namespace sluice {

struct EmitOptions {
  std::string report;   ///< text of report.json; empty = none
  unsigned threads = 0; ///< that read and pack weights; 0 = one per hardware thread, at most 4
  /// `done` of `total` bytes of weights are written; called on the calling thread.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

/// Writes the artifact directory `destination` from a module at phase `planned`: plan.pb, one
/// weights file per rank, the report, and the checkpoint's tokenizer.json, tokenizer_config.json,
/// chat_template.jinja and generation_config.json where it has them. Weights are read from the
/// checkpoint in pieces: memory is a few of those, plus one tensor where an expression transposes
/// it. Equal inputs give equal bytes. After an error `destination` is what it was before.
Status emitArtifact(mlir::ModuleOp module, const Checkpoint &checkpoint,
                    const std::string &destination, const EmitOptions &options = {});

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_EMITARTIFACT_H
