//===- HostKernel.h - Kernels of the host backend ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The host backend implements every kernel family in C++. It is the reference for correctness and
// the default where there is no GPU. A kernel is prepared once at load (constants parsed, SIMD
// variant chosen) and then run many times without allocating.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_HOSTKERNEL_H
#define SLUICE_RUNTIME_DEVICE_HOST_HOSTKERNEL_H

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/device/host/ThreadPool.h"

#include <memory>

namespace sluice::host {

/// A prepared kernel. run() is const and allocates nothing; several ranks may run one kernel at once,
/// each with its own pool and buffers.
class HostKernel {
public:
  virtual ~HostKernel() = default;
  /// `args` are the family's buffers in calling order (null = absent), at least 64-byte aligned and
  /// at least as large as familyArgBytes() says. Live counts come from the step header in args[0].
  virtual void run(void *const *args, ThreadPool &pool) const = 0;
};

/// Prepares the kernel for `params`; `dims` bound what one call may be asked to do.
/// Fails with kUnsupported when the host has no kernel for a format or combination.
Result<std::unique_ptr<HostKernel>> createHostKernel(const abi::FamilyParams &params,
                                                     const abi::StepDims &dims);

/// The instruction set in use ("avx512", "avx2", "portable"). SLUICE_HOST_ISA in the environment lowers it,
/// for tests and comparisons.
const char *hostIsaName();

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_HOSTKERNEL_H
