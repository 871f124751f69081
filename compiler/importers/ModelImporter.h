//===- ModelImporter.h - From a checkpoint to the moe dialect -----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The entry of the Hugging Face importers: which families exist, and the one call that turns an
// open checkpoint into a module at phase `input`. Families are rows of one table
// (compiler/importers/models/Families.cpp), each a function in a file of its own.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_MODELIMPORTER_H
#define SLUICE_COMPILER_IMPORTERS_MODELIMPORTER_H

#include "compiler/importers/checkpoint/Checkpoint.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <cstdint>
#include <string>

namespace sluice {

class ModelBuilder;

/// The choices of the user that shape a model module. Zero means the default given here.
struct ImportOptions {
  std::string target = "host"; ///< name of the target description
  std::string kvType = "f32";  ///< element type of the KV cache: f32, bf16 or f16
  int64_t maxBatchTokens = 0;  ///< 512
  int64_t maxSeqs = 0;         ///< 16, at most maxBatchTokens
  int64_t maxSeqLen = 0;       ///< 4096, at most the positions the model was trained for
  int64_t maxLogitRows = 0;    ///< the greater of maxSeqs and 64, at most maxBatchTokens
  int64_t pageSize = 0;        ///< 16
  /// Pages for maxSeqs sequences of maxSeqLen, but no more than fit into kDefaultKvBytes, and in
  /// any case those of one sequence.
  int64_t numPages = 0;
};

/// What the KV caches of all layers take at most when nobody says how many pages there should be.
inline constexpr int64_t kDefaultKvBytes = int64_t(4) << 30;

/// A family of models that the importers know.
struct ModelFamily {
  llvm::StringRef name;                              ///< "mixtral"
  llvm::ArrayRef<llvm::StringLiteral> architectures; ///< values of config.json's "architectures"
  mlir::LogicalResult (*import)(ModelBuilder &model);
};

/// Every family, in the order of their names.
llvm::ArrayRef<ModelFamily> allModelFamilies();

/// Opens `folder`, or only its configuration for synthetic weights; errors are diagnostics at the
/// folder.
mlir::FailureOr<Checkpoint> openCheckpoint(llvm::StringRef folder, bool synthetic,
                                           mlir::MLIRContext &context);

/// The model of a checkpoint as a verified module: func.func @step, one moe.weight per tensor or
/// stack of tensors, one moe.kv_cache per layer, and the module attributes moe.model, moe.limits,
/// moe.target and moe.phase = "input". No weight is read. What is wrong with configuration, tensors
/// or options is reported as diagnostics that name file, key, what was expected and what was found.
/// Loads the dialects it needs into the context.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> importCheckpoint(const Checkpoint &checkpoint,
                                                                    const ImportOptions &options,
                                                                    mlir::MLIRContext &context);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_MODELIMPORTER_H
