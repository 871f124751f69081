//===- RouterSimd.cpp - Score functions of the router -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A router of 256 experts evaluates as many exponentials per token; in scalar code they would cost
// more than choosing.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Router.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/RouterSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormExp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// exp(x - shift)
struct ShiftedExp {
  FloatVec shift;
  HWY_INLINE FloatVec operator()(FloatVec x) const { return expOf(hn::Sub(x, shift)); }
};
struct Sigmoid {
  HWY_INLINE FloatVec operator()(FloatVec x) const {
    const FloatTag d;
    const FloatVec one = hn::Set(d, 1.0f);
    // exp overflows at 88; the quotient is 0 to float32 from there on.
    const FloatVec e = expOf(hn::Min(hn::Neg(x), hn::Set(d, 88.0f)));
    return hn::Div(one, hn::Add(one, e));
  }
};
/// sqrt(log(1 + exp(x))), with softplus(x) = x beyond 20 as PyTorch computes it.
struct SqrtSoftplus {
  HWY_INLINE FloatVec operator()(FloatVec x) const {
    const FloatTag d;
    const FloatVec limit = hn::Set(d, 20.0f);
    const FloatVec soft = hn::Log1p(d, expOf(hn::Min(x, limit)));
    return hn::Sqrt(hn::IfThenElse(hn::Gt(x, limit), x, soft));
  }
};

/// out[i] = f(in[i]); returns the sum, lane by lane. The last vector is padded with -infinity,
/// whose images are not counted.
template <class F> HWY_INLINE float mapRow(const F &f, const float *in, int64_t n, float *out) {
  const FloatTag d;
  FloatVec sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes) {
    const FloatVec y = f(hn::LoadU(d, in + i));
    hn::StoreU(y, d, out + i);
    sum = hn::Add(sum, y);
  }
  if (i < n) {
    HWY_ALIGN float last[kFloatLanes];
    std::fill_n(last, kFloatLanes, -std::numeric_limits<float>::infinity());
    std::copy(in + i, in + n, last);
    const FloatVec y = f(hn::Load(d, last));
    hn::Store(y, d, last);
    std::copy_n(last, n - i, out + i);
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, size_t(n - i)), y));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void scoreRow(abi::ScoreFunction score, const float *logits, int64_t n, float *scores) {
  switch (score) {
  case abi::ScoreFunction::kSigmoid:
    mapRow(Sigmoid(), logits, n, scores);
    return;
  case abi::ScoreFunction::kSqrtSoftplus:
    mapRow(SqrtSoftplus(), logits, n, scores);
    return;
  case abi::ScoreFunction::kSoftmax:
    break;
  }
  const FloatTag d;
  const float greatest = *std::max_element(logits, logits + n);
  const float sum = mapRow(ShiftedExp{hn::Set(d, greatest)}, logits, n, scores);
  for (int64_t i = 0; i < n; ++i)
    scores[i] /= sum;
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

ScoreRow *chooseScoreRow() { return SLUICE_HOST_CHOOSE(scoreRow); }

} // namespace sluice::host
#endif // HWY_ONCE
