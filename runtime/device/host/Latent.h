//===- Latent.h - Rows of latent attention ----------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Multi-head latent attention (DeepSeek-V2, 2024) caches one row [latent | rotary] per position for
// all heads. Keys and values of a head are linear in the latent, so their weights can be absorbed
// into the query and into the output, and attention works on the cached rows themselves. The host
// does so in prefill too: expanding a context again for every chunk needs a buffer of the
// context's size, and the absorbed form has one code path whose results do not depend on how a
// prompt is cut. It costs (2 * latent + rotary) / (nope + rotary + value) as many multiply-adds
// per query and key, 3.4 for the published sizes.
//
// This is the interface between the kernels, which find pages and cut work into parts, and the SIMD
// code that finishes single rows.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_LATENT_H
#define SLUICE_RUNTIME_DEVICE_HOST_LATENT_H

#include "runtime/artifact/KernelFamilies.h"

#include <cstdint>

namespace sluice::host {

/// The rotation of one token: `half` pairs beginning at `offset` of a rotary part. half = 0: none.
struct TokenRotation {
  const float *frequencies = nullptr; ///< [half]
  int64_t half = 0, offset = 0;
  bool interleaved = false;
  float magnitude = 1;
  int32_t position = 0;
};

/// Copies the rotary parts of one token's heads, `width` values each, from x (xStride apart) to out
/// (outStride apart), and rotates them there.
using RotateHeads = void(const TokenRotation &rotation, int64_t heads, int64_t width,
                         const float *x, int64_t xStride, float *out, int64_t outStride);

/// Writes one token's row [latent | rotary] to its place in the cache: the latent RMS-normalised
/// with `weight` [latent], the rest rotated. Both parts are at most kQkvMaxHeadDim wide.
using StoreLatent = void(const TokenRotation &rotation, int64_t latent, int64_t rotary, float eps,
                         const float *x, const float *weight, void *out);

RotateHeads *chooseRotateHeads();
/// The SIMD variant for a cache type ("f32", "bf16", "f16").
StoreLatent *chooseStoreLatent(const std::string &cacheType);

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_LATENT_H
