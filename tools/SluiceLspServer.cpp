//===- SluiceLspServer.cpp - Editor support for .mlir files -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// MLIR's language server with our dialects: editors that speak the protocol get diagnostics,
// definitions, references and hover text for Sluice modules.
//
//===----------------------------------------------------------------------===//
#include "dialects/AllDialects.h"

#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"
#include "llvm/Support/LSP/Protocol.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  sluice::registerAllDialects(registry);
  return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
