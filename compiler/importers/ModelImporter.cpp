//===- ModelImporter.cpp - From a checkpoint to the moe dialect -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Finds the family and lets it build. What every import has in common (dialects, the last
// verification) is here, so that a family's file holds nothing but the family.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/ModelImporter.h"

#include "compiler/importers/ModelBuilder.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace sluice {

FailureOr<Checkpoint> openCheckpoint(StringRef folder, bool synthetic, MLIRContext &context) {
  Result<Checkpoint> checkpoint =
      synthetic ? Checkpoint::openSynthetic(folder.str()) : Checkpoint::open(folder.str());
  if (checkpoint.isOk())
    return std::move(*checkpoint);
  // The message names the file itself.
  emitError(UnknownLoc::get(&context), std::string(checkpoint.status().message()));
  return failure();
}

/// The row for the configuration's architecture; null after a diagnostic.
static const ModelFamily *findFamily(const Checkpoint &checkpoint, MLIRContext &context) {
  Location loc = FileLineColLoc::get(&context, checkpoint.configPath(), 1, 1);
  auto architectures =
      json::Cursor(checkpoint.config(), "config.json").getStringArray("architectures");
  if (!architectures.isOk()) {
    emitError(loc, std::string(architectures.status().message()));
    return nullptr;
  }
  for (const ModelFamily &family : allModelFamilies())
    for (StringLiteral architecture : family.architectures)
      if (llvm::is_contained(*architectures, architecture))
        return &family;
  SmallVector<StringRef> known;
  for (const ModelFamily &family : allModelFamilies())
    known.append(family.architectures.begin(), family.architectures.end());
  InFlightDiagnostic diagnostic = emitError(loc) << "config.json: key \"architectures\": \""
                                                 << llvm::join(*architectures, "\", \"")
                                                 << "\" is not a known architecture";
  diagnostic.attachNote() << "known architectures are " << llvm::join(known, ", ");
  return nullptr;
}

FailureOr<OwningOpRef<ModuleOp>>
importCheckpoint(const Checkpoint &checkpoint, const ImportOptions &options, MLIRContext &context) {
  context.loadDialect<func::FuncDialect, moe::MoeDialect>();
  if (options.kvType != "f32" && options.kvType != "bf16" && options.kvType != "f16") {
    emitError(UnknownLoc::get(&context))
        << "kv-dtype = " << options.kvType << " is not known; expected f32, bf16 or f16";
    return failure();
  }
  const ModelFamily *family = findFamily(checkpoint, context);
  if (!family)
    return failure();
  ModelBuilder model(checkpoint, options, *family, context);
  if (failed(family->import(model)))
    return failure();
  OwningOpRef<ModuleOp> module = model.take();
  if (failed(verify(*module)))
    return failure();
  return module;
}

} // namespace sluice
