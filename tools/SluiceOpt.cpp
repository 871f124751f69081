//===- SluiceOpt.cpp - Runs passes on .mlir files ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The development tool behind the lit tests: parses, verifies, runs the passes asked for and
// prints. It registers only the dialects a Sluice module may contain, so that it starts in
// milliseconds.
//
//===----------------------------------------------------------------------===//
#include "compiler/pipelines/Pipelines.h"
#include "dialects/AllDialects.h"
#include "passes/Passes.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Debug.h"
#include "llvm/Support/raw_ostream.h"

#include <string>
#include <vector>

/// Adds `type` to the debug types whose output is printed.
static void addDebugType(const std::string &type) {
  // Unqualified, because NDEBUG turns the function below into a macro.
  using namespace llvm;
  static std::vector<std::string> types;
  types.push_back(type);
  std::vector<const char *> names;
  for (const std::string &name : types)
    names.push_back(name.c_str());
  DebugFlag = true;
  setCurrentDebugTypes(names.data(), names.size());
}

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  sluice::registerAllDialects(registry);
  mlir::registerTransformsPasses();
  sluice::registerAllPasses();
  sluice::registerPhasePipelines();

  llvm::cl::AddExtraVersionPrinter(
      [](llvm::raw_ostream &os) { os << "sluice-opt " SLUICE_VERSION "\n"; });
  // A release build of LLVM offers no --debug-only, but our passes keep their LLVM_DEBUG output.
  llvm::cl::list<std::string> debugOnly("debug-only", llvm::cl::CommaSeparated,
                                        llvm::cl::desc("Print the debug output of these passes"));
  debugOnly.setCallback([](const std::string &pass) { addDebugType(pass); });
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Sluice pass driver\n", registry));
}
