//===- ProgramValidator.h - The commands of one bucket ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The part of plan validation that walks a program in order: every argument of every launch and
// both buffers of every collective against the slabs they lie in, and the data that kernels use as
// indices from its producer to its last reader.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_PROGRAMVALIDATOR_H
#define SLUICE_RUNTIME_ARTIFACT_PROGRAMVALIDATOR_H

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/ValidatorSupport.h"

namespace sluice::validation {

/// Checks the commands of `bucket`, a program of rank `rank` with that layout. `plan` has passed
/// the checks of its limits and parallelism. Errors name the command and the argument.
Status validateProgram(const proto::Plan &plan, const std::vector<abi::FamilyParams> &kernels,
                       const RankLayout &layout, uint32_t rank, const proto::Bucket &bucket);

} // namespace sluice::validation

#endif // SLUICE_RUNTIME_ARTIFACT_PROGRAMVALIDATOR_H
