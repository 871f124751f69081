//===- Registry.cpp - The table of host kernels -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Overload resolution is the table: a family without a row does not compile.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Kernels.h"

namespace sluice::host {
namespace {

struct Creators {
  const abi::StepDims &dims;

  KernelResult operator()(const abi::EmbeddingParams &p) { return createEmbedding(p, dims); }
  KernelResult operator()(const abi::NormParams &p) { return createNorm(p, dims); }
  KernelResult operator()(const abi::ResidualNormParams &p) { return createResidualNorm(p, dims); }
  KernelResult operator()(const abi::ResidualParams &p) { return createResidual(p, dims); }
  KernelResult operator()(const abi::LinearParams &p) { return createLinear(p, dims); }
  KernelResult operator()(const abi::FfnGateUpParams &p) { return createFfnGateUp(p, dims); }
  KernelResult operator()(const abi::QkvParams &p) { return createQkv(p, dims); }
  KernelResult operator()(const abi::AttentionParams &p) { return createAttention(p, dims); }
  KernelResult operator()(const abi::RouterParams &p) { return createRouter(p, dims); }
  KernelResult operator()(const abi::ExpertsGateUpParams &p) {
    return createExpertsGateUp(p, dims);
  }
  KernelResult operator()(const abi::ExpertsDownParams &p) { return createExpertsDown(p, dims); }
  KernelResult operator()(const abi::GatherRowsParams &p) { return createGatherRows(p, dims); }
  KernelResult operator()(const abi::SampleParams &p) { return createSample(p, dims); }
  KernelResult operator()(const abi::LatentQueryParams &p) { return createLatentQuery(p, dims); }
  KernelResult operator()(const abi::LatentAppendParams &p) { return createLatentAppend(p, dims); }
  KernelResult operator()(const abi::AbsorbedAttentionParams &p) {
    return createAbsorbedAttention(p, dims);
  }
  KernelResult operator()(const abi::TemperatureParams &p) { return createTemperature(p, dims); }
  KernelResult operator()(const abi::SigmoidGateParams &p) { return createSigmoidGate(p, dims); }
  KernelResult operator()(const abi::RoundRowsParams &p) { return createRoundRows(p, dims); }
  KernelResult operator()(const abi::AssignSlotsParams &p) { return createAssignSlots(p, dims); }
};

} // namespace

KernelResult createHostKernel(const abi::FamilyParams &params, const abi::StepDims &dims) {
  auto kernel = std::visit(Creators{dims}, params);
  if (!kernel.isOk())
    return kernel.status().withContext(std::string("host kernel ") + abi::familyName(params));
  return kernel;
}

} // namespace sluice::host
