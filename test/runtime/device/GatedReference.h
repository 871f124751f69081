//===- GatedReference.h - Gated activations in double ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The formulas of abi::GatedActivation, written out for comparison.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_DEVICE_GATEDREFERENCE_H
#define SLUICE_TEST_RUNTIME_DEVICE_GATEDREFERENCE_H

#include "runtime/artifact/KernelFamilies.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sluice::host::testing {

/// Every kind, with and without limits.
inline std::vector<abi::GatedActivation> gatedActivations() {
  using abi::Activation;
  return {{Activation::kSilu, 1, 0},           {Activation::kSilu, 1, 1.5},
          {Activation::kGelu, 1, 0},           {Activation::kRelu, 1, 0},
          {Activation::kGeluTanh, 1, 0},       {Activation::kSwigluOai, 1.702, 7},
          {Activation::kSwigluOai, 1.702, 0.5}};
}

inline double gatedReference(const abi::GatedActivation &act, double gate, double up) {
  if (act.limit > 0) {
    gate = std::min(gate, act.limit);
    up = std::clamp(up, -act.limit, act.limit);
  }
  switch (act.kind) {
  case abi::Activation::kSilu:
    return gate / (1 + std::exp(-gate)) * up;
  case abi::Activation::kGelu:
    return gate * 0.5 * (1 + std::erf(gate / std::sqrt(2.0))) * up;
  case abi::Activation::kGeluTanh:
    return 0.5 * gate *
           (1 + std::tanh(std::sqrt(2 / M_PI) * (gate + 0.044715 * std::pow(gate, 3)))) * up;
  case abi::Activation::kRelu:
    return std::max(gate, 0.0) * up;
  case abi::Activation::kSwigluOai:
    return (up + 1) * gate / (1 + std::exp(-act.alpha * gate));
  }
  return NAN;
}

} // namespace sluice::host::testing

#endif // SLUICE_TEST_RUNTIME_DEVICE_GATEDREFERENCE_H
