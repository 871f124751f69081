//===- Isa.h - Choice of instruction set for host kernels -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// SIMD code is written once with Highway (headers only) and compiled per instruction set through
// foreach_target.h. Highway's own dispatcher lives in a library we do not link; a source file
// includes this header first, which restricts the targets to the three we test, and picks a variant
// with SLUICE_HOST_CHOOSE when a kernel is created:
//
//   #include "runtime/device/host/Isa.h"
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "runtime/device/host/Mine.cpp"
//   #include "hwy/foreach_target.h"
//   #include "hwy/highway.h"
//   HWY_BEFORE_NAMESPACE();
//   namespace sluice::host { namespace HWY_NAMESPACE { void work(...) {...} } }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE
//   namespace sluice::host { auto *fn = SLUICE_HOST_CHOOSE(work); }
//   #endif
//
// GCC: lambdas inside do not inherit the target; mark them HWY_ATTR or use plain functions.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_ISA_H
#define SLUICE_RUNTIME_DEVICE_HOST_ISA_H

#include <type_traits>

// Portable (Highway's baseline for the compiler's default target), AVX2 + FMA + F16C, and the
// AVX-512 of Skylake servers and later.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#endif

namespace sluice::host {

enum class HostIsa : int { kPortable, kAvx2, kAvx512 };

/// The best instruction set of this processor, lowered by SLUICE_HOST_ISA ("portable", "avx2",
/// "avx512") when that names a lesser one; other values are ignored. Kernels ask when they are
/// created, so a change of the variable affects later kernels only.
HostIsa hostIsa();

const char *hostIsaName(HostIsa isa);

/// The variant for hostIsa(); targets this build lacks are null and fall back to the next lesser
/// one.
template <typename Fn>
Fn *chooseForHost(Fn *portable, std::type_identity_t<Fn> *avx2, std::type_identity_t<Fn> *avx512) {
  HostIsa isa = hostIsa();
  if (isa == HostIsa::kAvx512 && avx512)
    return avx512;
  if (isa >= HostIsa::kAvx2 && avx2)
    return avx2;
  return portable;
}

} // namespace sluice::host

/// Only under HWY_ONCE, for a function of HWY_NAMESPACE in the current namespace.
#define SLUICE_HOST_CHOOSE(function)                                                               \
  ::sluice::host::chooseForHost(&HWY_STATIC_DISPATCH(function), HWY_CHOOSE_AVX2(function),         \
                                HWY_CHOOSE_AVX3(function))

#endif // SLUICE_RUNTIME_DEVICE_HOST_ISA_H
