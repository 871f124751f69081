//===- Kernels.h - Creation functions of the host kernels -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One function per kernel family; createHostKernel() calls the one that fits. A function gets
// parameters that passed fromParams()'s checks, and fails with kUnsupported for what the host
// cannot compute. To add a family: declare it here, add its row in Registry.cpp.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_KERNELS_H
#define SLUICE_RUNTIME_DEVICE_HOST_KERNELS_H

#include "runtime/device/host/HostKernel.h"

namespace sluice::host {

using KernelResult = Result<std::unique_ptr<HostKernel>>;

KernelResult createEmbedding(const abi::EmbeddingParams &params, const abi::StepDims &dims);
KernelResult createNorm(const abi::NormParams &params, const abi::StepDims &dims);
KernelResult createResidualNorm(const abi::ResidualNormParams &params, const abi::StepDims &dims);
KernelResult createResidual(const abi::ResidualParams &params, const abi::StepDims &dims);
KernelResult createLinear(const abi::LinearParams &params, const abi::StepDims &dims);
KernelResult createFfnGateUp(const abi::FfnGateUpParams &params, const abi::StepDims &dims);
KernelResult createQkv(const abi::QkvParams &params, const abi::StepDims &dims);
KernelResult createAttention(const abi::AttentionParams &params, const abi::StepDims &dims);
KernelResult createRouter(const abi::RouterParams &params, const abi::StepDims &dims);
KernelResult createExpertsGateUp(const abi::ExpertsGateUpParams &params, const abi::StepDims &dims);
KernelResult createExpertsDown(const abi::ExpertsDownParams &params, const abi::StepDims &dims);
KernelResult createGatherRows(const abi::GatherRowsParams &params, const abi::StepDims &dims);
KernelResult createSample(const abi::SampleParams &params, const abi::StepDims &dims);
KernelResult createLatentQuery(const abi::LatentQueryParams &params, const abi::StepDims &dims);
KernelResult createLatentAppend(const abi::LatentAppendParams &params, const abi::StepDims &dims);
KernelResult createAbsorbedAttention(const abi::AbsorbedAttentionParams &params,
                                     const abi::StepDims &dims);
KernelResult createTemperature(const abi::TemperatureParams &params, const abi::StepDims &dims);
KernelResult createAssignSlots(const abi::AssignSlotsParams &params, const abi::StepDims &dims);
KernelResult createRoundRows(const abi::RoundRowsParams &params, const abi::StepDims &dims);
KernelResult createSigmoidGate(const abi::SigmoidGateParams &params, const abi::StepDims &dims);

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_KERNELS_H
