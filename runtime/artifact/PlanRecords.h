//===- PlanRecords.h - Between plan.pb and the types of the program ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The plan's records are protobuf messages; kernels and size rules speak in abi types. The compiler
// writes records with the functions here and the loader reads them back with their inverses, so
// that there is one opinion on what a record means.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_PLANRECORDS_H
#define SLUICE_RUNTIME_ARTIFACT_PLANRECORDS_H

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/plan.pb.h"
#include "sluice/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

/// The version of plan.pb that this build writes, and the newest major it reads.
inline constexpr uint32_t kPlanMajor = 1;
inline constexpr uint32_t kPlanMinor = 1;

/// Decodes plan.pb. Fails with kVersionMismatch when its major version is newer (whatever else it
/// holds), kDataCorrupt when it is no plan, kResourceExhausted beyond 256 MiB. Checks the encoding
/// only: validatePlan() checks the content.
Result<proto::Plan> parsePlan(std::span<const uint8_t> bytes);

/// Encodes a plan; equal plans give equal bytes.
Result<std::string> serializePlan(const proto::Plan &plan);

/// The record of a kernel, and its parameters checked by fromParams().
proto::Kernel makeKernel(std::string name, const abi::FamilyParams &params);
Result<abi::FamilyParams> kernelParams(const proto::Kernel &kernel);

/// The sizes that buffers and kernels of the bucket of `tokens` tokens are made for. Every sequence
/// and every logits row of a step has a token of its own, so small buckets have few of them.
abi::StepDims bucketDims(const proto::Limits &limits, uint32_t tokens);

/// Columns of the page table: pages of the longest sequence.
uint64_t pagesPerSequence(const proto::Limits &limits);

/// The IO buffers of a step and their exact bytes, in the order of StepAbi.h, without
/// expert_counts, which only MoE plans have. `dpGroups` counts the data parallel groups; only with
/// more than one are there buffers about groups. Fails when a size exceeds 2^62.
Result<std::vector<std::pair<const char *, uint64_t>>>
ioBufferBytes(const proto::Limits &limits, uint32_t vocabSize, uint32_t dpGroups = 1);

/// Data parallel groups of a plan: 1 without a record of its parallelism.
inline uint32_t dpGroups(const proto::Plan &plan) {
  return plan.has_parallelism() ? plan.parallelism().dp() : 1;
}

} // namespace sluice

#endif // SLUICE_RUNTIME_ARTIFACT_PLANRECORDS_H
