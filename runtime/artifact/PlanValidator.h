//===- PlanValidator.h - Is a decoded plan safe to run? ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Hashes say that an artifact is what its author wrote, not that the author meant well. Validation
// decides from the records alone that no step of the plan can touch memory outside its buffers, so
// that kernels need no checks of their own. Besides bounds it follows the one kind of data that
// kernels use as indices: what the host program writes into IO buffers, and the order of expert
// rows that a router computes for the expert kernels after it.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_PLANVALIDATOR_H
#define SLUICE_RUNTIME_ARTIFACT_PLANVALIDATOR_H

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/Safetensors.h"
#include "runtime/artifact/plan.pb.h"
#include "sluice/status.h"

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

/// What is known of a rank's weights file from the file itself.
struct WeightsFacts {
  uint64_t fileBytes = 0;
  /// Null for a rank whose file is not at hand: its records are then checked by themselves.
  const SafetensorsHeader *header = nullptr;
};

/// The alignment kernels may count on for every argument but expert counters.
inline constexpr uint64_t kArgAlignment = 64;

/// Checks every record of `plan` against the plan's own limits, the kernel families' conventions
/// and the weights files (one per rank, in rank order). Returns the parameters of every kernel.
/// Errors are kDataCorrupt (kUnsupported for an unknown kernel family or format) and name rank,
/// bucket, command and argument, the value and its limit. Never reads weights; safe on any input.
Result<std::vector<abi::FamilyParams>> validatePlan(const proto::Plan &plan,
                                                    std::span<const WeightsFacts> weights);

} // namespace sluice

#endif // SLUICE_RUNTIME_ARTIFACT_PLANVALIDATOR_H
