//===- Epilogue.h - What happens to a strip of a product --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Products leave their results in a strip of whole panels (Matmul.h); these functions finish it in
// place while it is in the first-level cache. They are the SIMD part of the matrix kernels that is
// not a product. Strips are [rows][kStripWidth]; all columns of the panels named are read and
// written, padding included.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_EPILOGUE_H
#define SLUICE_RUNTIME_DEVICE_HOST_EPILOGUE_H

#include "runtime/artifact/KernelFamilies.h"

#include <cstdint>

namespace sluice::host {

/// The numbers of an epilogue in the precision the kernels compute in.
struct LinearEpilogue {
  float scale = 1, softcap = 0;
};
struct GatedEpilogue {
  abi::Activation kind = abi::Activation::kSilu;
  float alpha = 1, limit = 0;

  static GatedEpilogue of(const abi::GatedActivation &activation) {
    return {activation.kind, float(activation.alpha), float(activation.limit)};
  }
};

/// The epilogues for one instruction set.
struct EpilogueOps {
  /// strip = softcap(scale * (strip + bias)) over `panels` panels; `bias` has 16 values per panel.
  void (*linear)(const LinearEpilogue &, float *strip, int64_t rows, int64_t panels,
                 const float *bias);
  /// For every gate panel followed by its up panel: the gate panel becomes
  /// act(gate + bias) * (up + bias). `bias` has 16 values per panel in the strip's order.
  /// `rowScale`, when not null, multiplies the products of each row first. With a limit L, gates
  /// are cut at L and ups at ±L.
  void (*gated)(const GatedEpilogue &, float *strip, int64_t rows, int64_t pairs, const float *bias,
                const float *rowScale);
  /// sum += weight * y, n values.
  void (*addScaled)(float *sum, const float *y, float weight, int64_t n);
};

/// The functions for hostIsa().
EpilogueOps chooseEpilogueOps();

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_EPILOGUE_H
