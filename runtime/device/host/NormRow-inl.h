//===- NormRow-inl.h - Sums over a row for norms ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Sums in a fixed order: four vectors of partial sums over the row, then their lanes. With rows of
// a few thousand values the partial chains are short, which keeps float32 sums within a few units
// in the last place. Include inside a file compiled by foreach_target.h, after highway.h.
//
//===------------------------------------------------------------------------===//
#if defined(SLUICE_RUNTIME_DEVICE_HOST_NORMROW_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_RUNTIME_DEVICE_HOST_NORMROW_INL_H
#undef SLUICE_RUNTIME_DEVICE_HOST_NORMROW_INL_H
#else
#define SLUICE_RUNTIME_DEVICE_HOST_NORMROW_INL_H
#endif

#include <cmath>
#include <cstdint>

#include "runtime/device/host/EmbeddingElements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {

/// Σ (x - shift)^power for power 1 or 2.
template <int power> HWY_INLINE float sumOfPowers(const float *x, int64_t n, float shift) {
  namespace hn = hwy::HWY_NAMESPACE;
  const FloatTag d;
  const FloatVec vShift = hn::Set(d, shift);
  FloatVec sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kFloatLanes <= n; i += 4 * kFloatLanes) {
    for (int j = 0; j < 4; ++j) {
      const FloatVec v = hn::Sub(hn::LoadU(d, x + i + j * kFloatLanes), vShift);
      sums[j] = power == 2 ? hn::MulAdd(v, v, sums[j]) : hn::Add(v, sums[j]);
    }
  }
  for (; i + kFloatLanes <= n; i += kFloatLanes) {
    const FloatVec v = hn::Sub(hn::LoadU(d, x + i), vShift);
    sums[0] = power == 2 ? hn::MulAdd(v, v, sums[0]) : hn::Add(v, sums[0]);
  }
  const FloatVec all = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  float total = hn::GetLane(hn::SumOfLanes(d, all));
  for (; i < n; ++i)
    total += power == 2 ? (x[i] - shift) * (x[i] - shift) : x[i] - shift;
  return total;
}

/// 1 / sqrt(mean(x^2) + eps), the factor of an RMS norm.
HWY_INLINE float inverseRms(const float *x, int64_t n, float eps) {
  return 1.0f / std::sqrt(sumOfPowers<2>(x, n, 0.0f) / float(n) + eps);
}

/// out = (x - shift) * factor [* weight] [+ bias]; out may be x.
HWY_INLINE void affineRow(const float *x, int64_t n, float shift, float factor, const float *weight,
                          const float *bias, float *out) {
  namespace hn = hwy::HWY_NAMESPACE;
  const FloatTag d;
  const FloatVec vShift = hn::Set(d, shift), vFactor = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes) {
    FloatVec v = hn::Mul(hn::Sub(hn::LoadU(d, x + i), vShift), vFactor);
    if (weight)
      v = hn::Mul(v, hn::LoadU(d, weight + i));
    if (bias)
      v = hn::Add(v, hn::LoadU(d, bias + i));
    hn::StoreU(v, d, out + i);
  }
  for (; i < n; ++i) {
    float v = (x[i] - shift) * factor;
    if (weight)
      v *= weight[i];
    out[i] = bias ? v + bias[i] : v;
  }
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#endif // SLUICE_RUNTIME_DEVICE_HOST_NORMROW_INL_H
