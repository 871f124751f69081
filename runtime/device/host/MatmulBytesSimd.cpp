//===- MatmulBytesSimd.cpp - Products with weights of eight bits ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// int8 codes are sign-extended and converted. e4m3 codes become float16 with two operations on
// their bits and are converted by the instruction for that, which, unlike arithmetic on float32
// with tiny exponents, handles subnormal numbers at full speed; the missing 2^8 is part of the
// scale.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/MatmulQuant.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/MatmulBytesSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/MatmulQuant-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct ByteCodes {
  static constexpr int kSteps = 1;
  static constexpr int64_t kLoadBytes = 16, kZeroBytes = 0;
  static constexpr bool kByteScales = false;
  struct Group {};
  static HWY_INLINE Group group(const uint8_t *) { return {}; }
};

struct I8Codes : ByteCodes {
  static constexpr float kFactor = 1;
  static HWY_INLINE void load(const Group &, const uint8_t *p, V (&w)[kSteps][kVecs]) {
    const hn::Rebind<int8_t, D> d8;
    for (int v = 0; v < kVecs; ++v) {
      const auto codes = hn::LoadU(d8, reinterpret_cast<const int8_t *>(p) + v * kLanes);
      w[0][v] = hn::ConvertTo(D(), hn::PromoteTo(hn::Rebind<int32_t, D>(), codes));
    }
  }
};

struct F8Codes : ByteCodes {
  static constexpr float kFactor = 256;
  static HWY_INLINE void load(const Group &, const uint8_t *p, V (&w)[kSteps][kVecs]) {
#if HWY_MAX_BYTES == 32
    // Both halves at once.
    using D16 = hn::CappedTag<int16_t, 16>;
    const auto codes = hn::LoadU(hn::Rebind<int8_t, D16>(), reinterpret_cast<const int8_t *>(p));
    const auto halves = halfOfF8<D16>(hn::PromoteTo(D16(), codes));
    const hn::Rebind<hwy::float16_t, D> dHalf;
    w[0][0] = hn::PromoteTo(D(), hn::LowerHalf(dHalf, halves));
    w[0][1] = hn::PromoteTo(D(), hn::UpperHalf(dHalf, halves));
#else
    for (int v = 0; v < kVecs; ++v)
      w[0][v] = loadF8(p + v * kLanes);
#endif
  }
};

void productI8(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  quantProduct<I8Codes>(x, rows, shape, weight, panels, out, ldo);
}
void productF8(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  quantProduct<F8Codes>(x, rows, shape, weight, panels, out, ldo);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

PanelProduct *chooseByteProduct(quant::ElementType type) {
  return type == quant::ElementType::kI8 ? SLUICE_HOST_CHOOSE(productI8)
                                         : SLUICE_HOST_CHOOSE(productF8);
}

} // namespace sluice::host
#endif // HWY_ONCE
