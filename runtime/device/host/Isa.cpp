//===- Isa.cpp - Choice of instruction set for host kernels -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The features asked for are exactly those that Highway 1.0 lets the compiler use for its AVX2 and
// AVX3 targets: a processor that lacks one of them must not run that code, even if it has AVX2.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/HostKernel.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sluice::host {
namespace {

constexpr const char *kNames[] = {"portable", "avx2", "avx512"};

HostIsa detectIsa() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  // cpu_supports also asks whether the operating system saves the wide registers.
  bool avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
              __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  return avx512 ? HostIsa::kAvx512 : avx2 ? HostIsa::kAvx2 : HostIsa::kPortable;
#else
  return HostIsa::kPortable;
#endif
}

} // namespace

HostIsa hostIsa() {
  static const HostIsa detected = detectIsa();
  const char *wanted = std::getenv("SLUICE_HOST_ISA");
  for (int isa = 0; wanted && isa < 3; ++isa) {
    if (std::string_view(wanted) == kNames[isa])
      return std::min(HostIsa(isa), detected);
  }
  return detected;
}

const char *hostIsaName(HostIsa isa) { return kNames[int(isa)]; }

const char *hostIsaName() { return hostIsaName(hostIsa()); }

} // namespace sluice::host
