//===- QkvSimd.cpp - Norm, rotation and cache write of a token --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A token's q, k and v rows are in the first-level cache from the product or after the first pass,
// so every step of the epilogue is a pass of its own over them.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Qkv.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/QkvSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormRow-inl.h"
#include "runtime/device/host/Rotation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE void addBias(float *x, const float *bias, int64_t n) {
  const FloatTag d;
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes)
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, bias + i)), d, x + i);
  for (; i < n; ++i)
    x[i] += bias[i];
}

HWY_INLINE void clamp(float *x, int64_t n, float limit) {
  const FloatTag d;
  const FloatVec high = hn::Set(d, limit), low = hn::Set(d, -limit);
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes)
    hn::StoreU(hn::Min(hn::Max(hn::LoadU(d, x + i), low), high), d, x + i);
  for (; i < n; ++i)
    x[i] = std::min(std::max(x[i], -limit), limit);
}

template <class Elements>
HWY_INLINE void finishToken(const QkvShape &shape, const QkvToken &token) {
  const int64_t dim = shape.headDim, heads = shape.qHeads + shape.kvHeads;
  const int64_t qSize = shape.qHeads * dim, kSize = shape.kvHeads * dim;
  float *x = token.projected;
  if (token.bias)
    addBias(x, token.bias, shape.projected());

  if (shape.qkNorm == abi::QkNorm::kWhole) {
    affineRow(x, qSize, 0.0f, inverseRms(x, qSize, shape.eps), token.qNorm, nullptr, x);
    float *k = x + qSize;
    affineRow(k, kSize, 0.0f, inverseRms(k, kSize, shape.eps), token.kNorm, nullptr, k);
  } else if (shape.qkNorm == abi::QkNorm::kPerHead) {
    for (int64_t head = 0; head < heads; ++head) {
      float *h = x + head * dim;
      affineRow(h, dim, 0.0f, inverseRms(h, dim, shape.eps),
                head < shape.qHeads ? token.qNorm : token.kNorm, nullptr, h);
    }
  }
  if (shape.clip > 0)
    clamp(x, shape.projected(), shape.clip);

  if (shape.ropeDim > 0) {
    Rotation rotation;
    const int64_t half = shape.ropeDim / 2;
    prepareRotation(token.frequencies, half, token.position, shape.magnitude, rotation);
    for (int64_t head = 0; head < heads; ++head)
      rotate(x + head * dim + shape.ropeOffset, half, shape.interleaved, rotation);
  }
  if (shape.qkNorm == abi::QkNorm::kL2AfterRope) {
    for (int64_t head = 0; head < heads; ++head) {
      float *h = x + head * dim;
      affineRow(h, dim, 0.0f, inverseRms(h, dim, shape.eps), nullptr, nullptr, h);
    }
  }
  affineRow(x, qSize, 0.0f, token.qScale, nullptr, nullptr, token.q);

  auto *keys = static_cast<typename Elements::T *>(token.keys);
  auto *values = static_cast<typename Elements::T *>(token.values);
  for (int64_t head = 0; head < shape.kvHeads; ++head) {
    storeElements<Elements>(x + qSize + head * dim, dim, keys + head * shape.pageSize * dim);
    storeElements<Elements>(x + qSize + kSize + head * shape.valueDim, shape.valueDim,
                            values + head * shape.pageSize * shape.valueDim);
  }
}

void finishF32(const QkvShape &shape, const QkvToken &token) {
  finishToken<F32Elements>(shape, token);
}
void finishBF16(const QkvShape &shape, const QkvToken &token) {
  finishToken<BF16Elements>(shape, token);
}
void finishF16(const QkvShape &shape, const QkvToken &token) {
  finishToken<F16Elements>(shape, token);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

FinishQkvToken *chooseFinishQkvToken(const std::string &cacheType) {
  if (cacheType == "bf16")
    return SLUICE_HOST_CHOOSE(finishBF16);
  if (cacheType == "f16")
    return SLUICE_HOST_CHOOSE(finishF16);
  return SLUICE_HOST_CHOOSE(finishF32);
}

} // namespace sluice::host
#endif // HWY_ONCE
