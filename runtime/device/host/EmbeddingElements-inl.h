//===- EmbeddingElements-inl.h - Stored elements as SIMD vectors ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Embedding tables and KV caches hold float32, bfloat16 or binary16; kernels compute in float32.
// These three types widen and narrow one vector (or one element, for the tail of a row) and give
// the bits that runtime/base/NarrowFloat.h defines. Highway's own narrowing to bfloat16 truncates, so
// rounding is done here. Include inside a file compiled by foreach_target.h, after highway.h.
//
//===------------------------------------------------------------------------===//
#if defined(SLUICE_RUNTIME_DEVICE_HOST_EMBEDDINGELEMENTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_RUNTIME_DEVICE_HOST_EMBEDDINGELEMENTS_INL_H
#undef SLUICE_RUNTIME_DEVICE_HOST_EMBEDDINGELEMENTS_INL_H
#else
#define SLUICE_RUNTIME_DEVICE_HOST_EMBEDDINGELEMENTS_INL_H
#endif

#include "runtime/base/NarrowFloat.h"

#include <cstdint>

#include "hwy/highway.h"

#undef SLUICE_HAVE_F16C
#define SLUICE_HAVE_F16C (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {

using FloatTag = hwy::HWY_NAMESPACE::CappedTag<float, 16>;
using FloatVec = hwy::HWY_NAMESPACE::Vec<FloatTag>;
constexpr int64_t kFloatLanes = int64_t(FloatTag::kPrivateN);

struct F32Elements {
  using T = float;
  static HWY_INLINE FloatVec load(const T *p) { return hwy::HWY_NAMESPACE::LoadU(FloatTag(), p); }
  static HWY_INLINE void store(FloatVec v, T *p) { hwy::HWY_NAMESPACE::StoreU(v, FloatTag(), p); }
  static HWY_INLINE float widen(T x) { return x; }
  static HWY_INLINE T narrow(float x) { return x; }
};

struct BF16Elements {
  using T = uint16_t;
  static HWY_INLINE FloatVec load(const T *p) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::RebindToUnsigned<FloatTag> d32;
    const hn::Rebind<uint16_t, FloatTag> d16;
    return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
  }
  static HWY_INLINE void store(FloatVec v, T *p) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::RebindToUnsigned<FloatTag> d32;
    const hn::RebindToSigned<FloatTag> i32;
    const hn::Rebind<uint16_t, FloatTag> d16;
    const auto bits = hn::BitCast(d32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffu)), odd);
    const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000u));
    const auto kept = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(i32, hn::ShiftRight<16>(kept))), d16, p);
  }
  static HWY_INLINE float widen(T x) { return bf16ToF32(x); }
  static HWY_INLINE T narrow(float x) { return f32ToBf16(x); }
};

struct F16Elements {
  using T = uint16_t;
  static HWY_INLINE FloatVec load(const T *p) {
    namespace hn = hwy::HWY_NAMESPACE;
#if SLUICE_HAVE_F16C
    const hn::Rebind<uint16_t, FloatTag> d16;
    const hn::Rebind<hwy::float16_t, FloatTag> half;
    return hn::PromoteTo(FloatTag(), hn::BitCast(half, hn::LoadU(d16, p)));
#else
    // Without the hardware's conversion Highway 1.0 widens infinity to 65536.
    HWY_ALIGN float lanes[kFloatLanes];
    for (int64_t i = 0; i < kFloatLanes; ++i)
      lanes[i] = f16ToF32(p[i]);
    return hn::Load(FloatTag(), lanes);
#endif
  }
  static HWY_INLINE void store(FloatVec v, T *p) {
    namespace hn = hwy::HWY_NAMESPACE;
#if SLUICE_HAVE_F16C
    const hn::Rebind<uint16_t, FloatTag> d16;
    const hn::Rebind<hwy::float16_t, FloatTag> half;
    hn::StoreU(hn::BitCast(d16, hn::DemoteTo(half, v)), d16, p);
#else
    // Without the hardware's conversion Highway rounds differently from Float16.h.
    HWY_ALIGN float lanes[kFloatLanes];
    hn::Store(v, FloatTag(), lanes);
    for (int64_t i = 0; i < kFloatLanes; ++i)
      p[i] = f32ToF16(lanes[i]);
#endif
  }
  static HWY_INLINE float widen(T x) { return f16ToF32(x); }
  static HWY_INLINE T narrow(float x) { return f32ToF16(x); }
};

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#endif // SLUICE_RUNTIME_DEVICE_HOST_EMBEDDINGELEMENTS_INL_H
