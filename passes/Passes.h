//===- Passes.h - Passes of the Sluice compiler -------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Constructors and registration of every pass; generated from Passes.td, where each is described.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_PASSES_H
#define SLUICE_PASSES_PASSES_H

#include "dialects/Moe/Moe.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

#include <memory>
#include <string>

namespace sluice {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

/// Registers every pass with the global registry; programs that parse pass pipelines call it once.
inline void registerAllPasses() { registerSluicePasses(); }

} // namespace sluice

#endif // SLUICE_PASSES_PASSES_H
