//===- NormExp-inl.h - Exponentials for softmax -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Highway's Exp is within one unit in the last place, but converts its argument to an integer
// before it looks at the range, which has no defined result for NaN where Highway emulates vectors.
// Include inside a file compiled by foreach_target.h, after highway.h.
//
//===------------------------------------------------------------------------===//
#if defined(SLUICE_RUNTIME_DEVICE_HOST_NORMEXP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_RUNTIME_DEVICE_HOST_NORMEXP_INL_H
#undef SLUICE_RUNTIME_DEVICE_HOST_NORMEXP_INL_H
#else
#define SLUICE_RUNTIME_DEVICE_HOST_NORMEXP_INL_H
#endif

#include "hwy/contrib/math/math-inl.h"
#include "runtime/device/host/EmbeddingElements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {

/// exp(x) for x <= 88; 0 below -104 and for NaN.
HWY_INLINE FloatVec expOf(FloatVec x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const FloatTag d;
  const FloatVec lowest = hn::Set(d, -104.0f);
  // The image of -105 is 0.
  return hn::Exp(d, hn::IfThenElse(hn::Ge(x, lowest), x, hn::Set(d, -105.0f)));
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#endif // SLUICE_RUNTIME_DEVICE_HOST_NORMEXP_INL_H
