//===- Phases.h - The named phases of a compilation ---------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_VERIFY_PHASES_H
#define SLUICE_PASSES_VERIFY_PHASES_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <optional>

namespace sluice {

/// The states a module goes through, in order; each is what holds when its passes have run.
enum class Phase { Input, Normalized, Quantized, Placed, Fused, Partitioned, Planned };

/// Names in order: input, normalized, quantized, placed, fused, partitioned, planned.
llvm::ArrayRef<llvm::StringLiteral> allPhaseNames();
llvm::StringRef phaseName(Phase phase);
/// The phase of that name, or nothing.
std::optional<Phase> parsePhase(llvm::StringRef name);

} // namespace sluice

#endif // SLUICE_PASSES_VERIFY_PHASES_H
