//===- LatentSimd.cpp - Rotation, norm and store of latent rows -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A token's sines and cosines are computed once and serve all its heads.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Latent.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/LatentSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormRow-inl.h"
#include "runtime/device/host/Rotation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {

void rotateHeads(const TokenRotation &token, int64_t heads, int64_t width, const float *x,
                 int64_t xStride, float *out, int64_t outStride) {
  Rotation rotation;
  if (token.half > 0)
    prepareRotation(token.frequencies, token.half, token.position, token.magnitude, rotation);
  for (int64_t head = 0; head < heads; ++head, x += xStride, out += outStride) {
    std::copy_n(x, width, out);
    if (token.half > 0)
      rotate(out + token.offset, token.half, token.interleaved, rotation);
  }
}

template <class Elements>
HWY_INLINE void storeRow(const TokenRotation &token, int64_t latent, int64_t rotary, float eps,
                         const float *x, const float *weight, void *out) {
  HWY_ALIGN float row[kQkvMaxHeadDim];
  auto *elements = static_cast<typename Elements::T *>(out);
  affineRow(x, latent, 0.0f, inverseRms(x, latent, eps), weight, nullptr, row);
  storeElements<Elements>(row, latent, elements);
  rotateHeads(token, 1, rotary, x + latent, 0, row, 0);
  storeElements<Elements>(row, rotary, elements + latent);
}

void storeF32(const TokenRotation &token, int64_t latent, int64_t rotary, float eps, const float *x,
              const float *weight, void *out) {
  storeRow<F32Elements>(token, latent, rotary, eps, x, weight, out);
}
void storeBF16(const TokenRotation &token, int64_t latent, int64_t rotary, float eps,
               const float *x, const float *weight, void *out) {
  storeRow<BF16Elements>(token, latent, rotary, eps, x, weight, out);
}
void storeF16(const TokenRotation &token, int64_t latent, int64_t rotary, float eps, const float *x,
              const float *weight, void *out) {
  storeRow<F16Elements>(token, latent, rotary, eps, x, weight, out);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

RotateHeads *chooseRotateHeads() { return SLUICE_HOST_CHOOSE(rotateHeads); }

StoreLatent *chooseStoreLatent(const std::string &cacheType) {
  if (cacheType == "bf16")
    return SLUICE_HOST_CHOOSE(storeBF16);
  if (cacheType == "f16")
    return SLUICE_HOST_CHOOSE(storeF16);
  return SLUICE_HOST_CHOOSE(storeF32);
}

} // namespace sluice::host
#endif // HWY_ONCE
