//===- EpilogueSimd.cpp - What happens to a strip of a product, with SIMD ---===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Exponentials come from Highway's math header (1 ulp). Sigmoid arguments are clamped so that exp
// stays inside its valid range; the clamp changes results below 1e-37 only.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Epilogue.h"
#include "runtime/device/host/Matmul.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/EpilogueSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int kLanes = int(D::kPrivateN);

HWY_INLINE V sigmoid(V x) {
  const D d;
  V negated = hn::Min(hn::Neg(x), hn::Set(d, 87.0f));
  return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), hn::Exp(d, negated)));
}

/// The exact Gaussian error unit; SIMD libraries have no erf, and models that use it are rare.
HWY_INLINE V gelu(V x) {
  const D d;
  HWY_ALIGN float lanes[kLanes];
  hn::Store(x, d, lanes);
  for (float &lane : lanes)
    lane = 0.5f * lane * (1.0f + std::erf(lane * 0.70710678118654752f));
  return hn::Load(d, lanes);
}

template <abi::Activation kind> HWY_INLINE V gatedUnit(V gate, V up, V alpha) {
  const D d;
  switch (kind) {
  case abi::Activation::kSilu:
    return hn::Mul(hn::Mul(gate, sigmoid(gate)), up);
  case abi::Activation::kGelu:
    return hn::Mul(gelu(gate), up);
  case abi::Activation::kGeluTanh: {
    // (1 + tanh(z)) / 2 = sigmoid(2 z) with z = sqrt(2 / pi) * (x + 0.044715 x^3).
    V cubic = hn::MulAdd(hn::Mul(hn::Mul(gate, gate), gate), hn::Set(d, 0.044715f), gate);
    return hn::Mul(hn::Mul(gate, sigmoid(hn::Mul(cubic, hn::Set(d, 1.5957691216057308f)))), up);
  }
  case abi::Activation::kRelu:
    return hn::Mul(hn::Max(gate, hn::Zero(d)), up);
  case abi::Activation::kSwigluOai:
    return hn::Mul(hn::Add(up, hn::Set(d, 1.0f)), hn::Mul(gate, sigmoid(hn::Mul(alpha, gate))));
  }
  return gate;
}

template <abi::Activation kind>
HWY_INLINE void gatedStrip(const GatedEpilogue &epilogue, float *strip, int64_t rows, int64_t pairs,
                           const float *bias, const float *rowScale) {
  const D d;
  const V alpha = hn::Set(d, epilogue.alpha);
  const V limit = hn::Set(d, epilogue.limit > 0 ? epilogue.limit : HUGE_VALF);
  const V floor = hn::Neg(limit);
  for (int64_t row = 0; row < rows; ++row) {
    const V scale = hn::Set(d, rowScale ? rowScale[row] : 1.0f);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      float *gates = strip + row * kStripWidth + pair * 32;
      for (int64_t i = 0; i < 16; i += kLanes) {
        V gate = hn::MulAdd(hn::LoadU(d, gates + i), scale, hn::LoadU(d, bias + pair * 32 + i));
        V up = hn::MulAdd(hn::LoadU(d, gates + 16 + i), scale,
                          hn::LoadU(d, bias + pair * 32 + 16 + i));
        gate = hn::Min(gate, limit);
        up = hn::Max(hn::Min(up, limit), floor);
        hn::StoreU(gatedUnit<kind>(gate, up, alpha), d, gates + i);
      }
    }
  }
}

void finishGated(const GatedEpilogue &epilogue, float *strip, int64_t rows, int64_t pairs,
                 const float *bias, const float *rowScale) {
  using abi::Activation;
  switch (epilogue.kind) {
  case Activation::kSilu:
    return gatedStrip<Activation::kSilu>(epilogue, strip, rows, pairs, bias, rowScale);
  case Activation::kGelu:
    return gatedStrip<Activation::kGelu>(epilogue, strip, rows, pairs, bias, rowScale);
  case Activation::kGeluTanh:
    return gatedStrip<Activation::kGeluTanh>(epilogue, strip, rows, pairs, bias, rowScale);
  case Activation::kRelu:
    return gatedStrip<Activation::kRelu>(epilogue, strip, rows, pairs, bias, rowScale);
  case Activation::kSwigluOai:
    return gatedStrip<Activation::kSwigluOai>(epilogue, strip, rows, pairs, bias, rowScale);
  }
}

void finishLinear(const LinearEpilogue &epilogue, float *strip, int64_t rows, int64_t panels,
                  const float *bias) {
  const D d;
  const V scale = hn::Set(d, epilogue.scale);
  const V cap = hn::Set(d, epilogue.softcap);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < panels * 16; i += kLanes) {
      float *p = strip + row * kStripWidth + i;
      V value = hn::Mul(scale, hn::Add(hn::LoadU(d, p), hn::LoadU(d, bias + i)));
      if (epilogue.softcap > 0)
        value = hn::Mul(cap, hn::Tanh(d, hn::Div(value, cap)));
      hn::StoreU(value, d, p);
    }
  }
}

template <class Lanes>
HWY_INLINE void addScaledAt(Lanes d, float *sum, const float *y, float weight) {
  hn::StoreU(hn::MulAdd(hn::Set(d, weight), hn::LoadU(d, y), hn::LoadU(d, sum)), d, sum);
}

void addScaled(float *sum, const float *y, float weight, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    addScaledAt(D(), sum + i, y + i, weight);
  for (; i < n; ++i)
    addScaledAt(hn::CappedTag<float, 1>(), sum + i, y + i, weight);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

EpilogueOps chooseEpilogueOps() {
  return {SLUICE_HOST_CHOOSE(finishLinear), SLUICE_HOST_CHOOSE(finishGated),
          SLUICE_HOST_CHOOSE(addScaled)};
}

} // namespace sluice::host
#endif // HWY_ONCE
