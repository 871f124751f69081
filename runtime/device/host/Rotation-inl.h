//===- Rotation-inl.h - Rotary positions and cache stores -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Angles follow the models' own arithmetic: float32(position) * frequency, rounded to float32, and
// then an exact sine and cosine of that number. The latter are computed in double: reduction by
// multiples of pi/2 with a two-part constant (Cody and Waite), then Taylor polynomials on
// [-pi/4, pi/4] whose first omitted term is below 1e-11, so that float32 results are correctly
// rounded but for rare ties, for any position a model can have. Include inside a file compiled by
// foreach_target.h, after highway.h.
//
//===------------------------------------------------------------------------===//
#if defined(SLUICE_RUNTIME_DEVICE_HOST_ROTATION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_RUNTIME_DEVICE_HOST_ROTATION_INL_H
#undef SLUICE_RUNTIME_DEVICE_HOST_ROTATION_INL_H
#else
#define SLUICE_RUNTIME_DEVICE_HOST_ROTATION_INL_H
#endif

#include <algorithm>
#include <cstdint>

#include "runtime/device/host/EmbeddingElements-inl.h"
#include "runtime/device/host/Qkv.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DoubleTag = hn::CappedTag<double, 8>;
using HalfFloatTag = hn::Rebind<float, DoubleTag>;
constexpr int64_t kDoubleLanes = int64_t(DoubleTag::kPrivateN);

/// cos and sin of angle[i], times `magnitude`, for one vector.
HWY_INLINE void cosSin(hn::Vec<HalfFloatTag> angle, float magnitude, float *cosOut, float *sinOut) {
  const DoubleTag d;
  const HalfFloatTag f;
  const auto set = [d](double v) HWY_ATTR { return hn::Set(d, v); };
  const auto x = hn::PromoteTo(d, angle);
  const auto n = hn::Round(hn::Mul(x, set(0.63661977236758134308)));
  auto r = hn::NegMulAdd(n, set(1.57079632679489655800), x);
  r = hn::NegMulAdd(n, set(6.12323399573676603587e-17), r);
  const auto r2 = hn::Mul(r, r);

  auto sine = hn::MulAdd(r2, set(-1.0 / 39916800), set(1.0 / 362880));
  sine = hn::MulAdd(r2, sine, set(-1.0 / 5040));
  sine = hn::MulAdd(r2, sine, set(1.0 / 120));
  sine = hn::MulAdd(r2, sine, set(-1.0 / 6));
  sine = hn::MulAdd(hn::Mul(r2, r), sine, r);
  auto cosine = hn::MulAdd(r2, set(1.0 / 479001600), set(-1.0 / 3628800));
  cosine = hn::MulAdd(r2, cosine, set(1.0 / 40320));
  cosine = hn::MulAdd(r2, cosine, set(-1.0 / 720));
  cosine = hn::MulAdd(r2, cosine, set(1.0 / 24));
  cosine = hn::MulAdd(r2, cosine, set(-0.5));
  cosine = hn::MulAdd(r2, cosine, set(1.0));

  // Quadrant n mod 4: 0 (c, s), 1 (-s, c), 2 (-c, -s), 3 (s, -c).
  const auto quadrant =
      hn::NegMulAdd(hn::Floor(hn::Mul(n, set(0.25))), set(4.0), n); // exact small integers
  const auto is1 = hn::Eq(quadrant, set(1.0)), is2 = hn::Eq(quadrant, set(2.0));
  const auto is3 = hn::Eq(quadrant, set(3.0));
  const auto swapped = hn::Or(is1, is3);
  auto c = hn::IfThenElse(swapped, sine, cosine), s = hn::IfThenElse(swapped, cosine, sine);
  c = hn::IfThenElse(hn::Or(is1, is2), hn::Neg(c), c);
  s = hn::IfThenElse(hn::Or(is2, is3), hn::Neg(s), s);
  const auto scale = hn::Set(f, magnitude);
  hn::StoreU(hn::Mul(hn::DemoteTo(f, c), scale), f, cosOut);
  hn::StoreU(hn::Mul(hn::DemoteTo(f, s), scale), f, sinOut);
}

/// Tables of a token's rotation, for heads of at most kQkvMaxHeadDim entries; room for whole
/// vectors past the end.
struct Rotation {
  HWY_ALIGN float cosine[kQkvMaxHeadDim / 2 + 8];
  HWY_ALIGN float sine[kQkvMaxHeadDim / 2 + 8];
};

HWY_INLINE void prepareRotation(const float *frequencies, int64_t half, int32_t position,
                                float magnitude, Rotation &out) {
  const HalfFloatTag f;
  const auto pos = hn::Set(f, float(position));
  int64_t i = 0;
  for (; i + kDoubleLanes <= half; i += kDoubleLanes)
    cosSin(hn::Mul(pos, hn::LoadU(f, frequencies + i)), magnitude, out.cosine + i, out.sine + i);
  if (i < half) {
    float last[kDoubleLanes] = {};
    std::copy(frequencies + i, frequencies + half, last);
    cosSin(hn::Mul(pos, hn::LoadU(f, last)), magnitude, out.cosine + i, out.sine + i);
  }
}

/// Rotates pairs (i, i + half), or (2i, 2i + 1) when interleaved, of one head in place.
HWY_INLINE void rotate(float *x, int64_t half, bool interleaved, const Rotation &rotation) {
  const FloatTag d;
  const int64_t step = interleaved ? 2 : 1, partner = interleaved ? 1 : half;
  int64_t i = 0;
  for (; i + kFloatLanes <= half; i += kFloatLanes) {
    const FloatVec c = hn::LoadU(d, rotation.cosine + i), s = hn::LoadU(d, rotation.sine + i);
    FloatVec a, b;
    if (interleaved) {
      hn::LoadInterleaved2(d, x + 2 * i, a, b);
    } else {
      a = hn::LoadU(d, x + i);
      b = hn::LoadU(d, x + half + i);
    }
    const FloatVec first = hn::NegMulAdd(b, s, hn::Mul(a, c));
    const FloatVec second = hn::MulAdd(a, s, hn::Mul(b, c));
    if (interleaved) {
      hn::StoreInterleaved2(first, second, d, x + 2 * i);
    } else {
      hn::StoreU(first, d, x + i);
      hn::StoreU(second, d, x + half + i);
    }
  }
  for (; i < half; ++i) {
    float &a = x[i * step], &b = x[i * step + partner];
    const float first = a * rotation.cosine[i] - b * rotation.sine[i];
    b = b * rotation.cosine[i] + a * rotation.sine[i];
    a = first;
  }
}

/// Stores n values in the cache's element type.
template <class Elements>
HWY_INLINE void storeElements(const float *x, int64_t n, typename Elements::T *out) {
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes)
    Elements::store(hn::LoadU(FloatTag(), x + i), out + i);
  for (; i < n; ++i)
    out[i] = Elements::narrow(x[i]);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#endif // SLUICE_RUNTIME_DEVICE_HOST_ROTATION_INL_H
