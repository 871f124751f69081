//===- MatmulNibblesSimd.cpp - Products with weights of four bits -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// 16 bytes hold two steps of a panel. Integers lose their zero point as bytes, which is exact; E2M1
// codes index a table of sixteen bytes that holds twice their values, the half being part of the
// scale. Either way bytes are then sign-extended and converted.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/MatmulQuant.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/MatmulNibblesSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/MatmulQuant-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Twice the values of E2M1 codes.
HWY_ALIGN constexpr int8_t kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

HWY_INLINE V toFloat(hn::Vec<hn::Rebind<int8_t, D>> bytes) {
  return hn::ConvertTo(D(), hn::PromoteTo(hn::Rebind<int32_t, D>(), bytes));
}

struct NibbleCodes {
  static constexpr int kSteps = 2;
  static constexpr int64_t kLoadBytes = 16;
};

struct I4Traits : NibbleCodes {
  static constexpr int64_t kZeroBytes = 16;
  static constexpr float kFactor = 1;
  static constexpr bool kByteScales = false;
};

struct F4Traits : NibbleCodes {
  static constexpr int64_t kZeroBytes = 0;
  static constexpr float kFactor = 0.5f;
  static constexpr bool kByteScales = true;
};

#if HWY_MAX_BYTES >= 32

using Bytes = hn::Full128<uint8_t>;
using SignedBytes = hn::Full128<int8_t>;

HWY_INLINE void toFloats(hn::Vec<SignedBytes> bytes, V (&w)[kVecs]) {
#if HWY_MAX_BYTES == 64
  w[0] = toFloat(bytes);
#else
  const hn::Half<SignedBytes> half;
  w[0] = toFloat(hn::LowerHalf(half, bytes));
  w[1] = toFloat(hn::UpperHalf(half, bytes));
#endif
}

HWY_INLINE hn::Vec<Bytes> lowNibbles(hn::Vec<Bytes> bytes) {
  return hn::And(bytes, hn::Set(Bytes(), uint8_t(15)));
}
HWY_INLINE hn::Vec<Bytes> highNibbles(hn::Vec<Bytes> bytes) {
  const hn::Repartition<uint16_t, Bytes> d16;
  return lowNibbles(hn::BitCast(Bytes(), hn::ShiftRight<4>(hn::BitCast(d16, bytes))));
}

struct I4Codes : I4Traits {
  using Group = hn::Vec<Bytes>;
  static HWY_INLINE Group group(const uint8_t *zeros) { return hn::LoadU(Bytes(), zeros); }
  static HWY_INLINE void load(const Group &zeros, const uint8_t *p, V (&w)[kSteps][kVecs]) {
    const auto codes = hn::LoadU(Bytes(), p);
    toFloats(hn::BitCast(SignedBytes(), hn::Sub(lowNibbles(codes), zeros)), w[0]);
    toFloats(hn::BitCast(SignedBytes(), hn::Sub(highNibbles(codes), zeros)), w[1]);
  }
};

struct F4Codes : F4Traits {
  struct Group {};
  static HWY_INLINE Group group(const uint8_t *) { return {}; }
  static HWY_INLINE void load(const Group &, const uint8_t *p, V (&w)[kSteps][kVecs]) {
    const auto table = hn::Load(SignedBytes(), kDoubled);
    const auto codes = hn::LoadU(Bytes(), p);
    toFloats(hn::TableLookupBytes(table, hn::BitCast(SignedBytes(), lowNibbles(codes))), w[0]);
    toFloats(hn::TableLookupBytes(table, hn::BitCast(SignedBytes(), highNibbles(codes))), w[1]);
  }
};

#else // short vectors: a panel's bytes one by one

HWY_INLINE void toFloats(const int8_t (&bytes)[16], V (&w)[kVecs]) {
  for (int v = 0; v < kVecs; ++v)
    w[v] = toFloat(hn::LoadU(hn::Rebind<int8_t, D>(), bytes + v * kLanes));
}

struct I4Codes : I4Traits {
  using Group = const uint8_t *;
  static HWY_INLINE Group group(const uint8_t *zeros) { return zeros; }
  static HWY_INLINE void load(Group zeros, const uint8_t *p, V (&w)[kSteps][kVecs]) {
    int8_t bytes[kSteps][16];
    for (int i = 0; i < 16; ++i) {
      bytes[0][i] = int8_t((p[i] & 15) - zeros[i]);
      bytes[1][i] = int8_t((p[i] >> 4) - zeros[i]);
    }
    toFloats(bytes[0], w[0]);
    toFloats(bytes[1], w[1]);
  }
};

struct F4Codes : F4Traits {
  struct Group {};
  static HWY_INLINE Group group(const uint8_t *) { return {}; }
  static HWY_INLINE void load(const Group &, const uint8_t *p, V (&w)[kSteps][kVecs]) {
    int8_t bytes[kSteps][16];
    for (int i = 0; i < 16; ++i) {
      bytes[0][i] = kDoubled[p[i] & 15];
      bytes[1][i] = kDoubled[p[i] >> 4];
    }
    toFloats(bytes[0], w[0]);
    toFloats(bytes[1], w[1]);
  }
};

#endif

void productI4(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  quantProduct<I4Codes>(x, rows, shape, weight, panels, out, ldo);
}
void productF4(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  quantProduct<F4Codes>(x, rows, shape, weight, panels, out, ldo);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

PanelProduct *chooseNibbleProduct(quant::ElementType type) {
  return type == quant::ElementType::kI4 ? SLUICE_HOST_CHOOSE(productI4)
                                         : SLUICE_HOST_CHOOSE(productF4);
}

} // namespace sluice::host
#endif // HWY_ONCE
