//===- SigmoidGate.cpp - Rows scaled by a number of their own ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The gate of a shared expert is one number per token: a dot product over the layer's input, then a
// pass over the shared expert's output. A temperature is one too, computed from the position.
// Tokens are never split, so a token's result depends neither on the threads nor on the batch.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/Qkv.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/SigmoidGate.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormRow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// out = y * sigmoid(x · w).
void gateRow(const float *x, const float *w, int64_t k, const float *y, int64_t width, float *out) {
  const FloatTag d;
  FloatVec sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kFloatLanes <= k; i += 4 * kFloatLanes)
    for (int64_t j = 0; j < 4; ++j)
      sums[j] = hn::MulAdd(hn::LoadU(d, x + i + j * kFloatLanes),
                           hn::LoadU(d, w + i + j * kFloatLanes), sums[j]);
  for (; i + kFloatLanes <= k; i += kFloatLanes)
    sums[0] = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, w + i), sums[0]);
  const FloatVec all = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  float logit = hn::GetLane(hn::SumOfLanes(d, all));
  for (; i < k; ++i)
    logit += x[i] * w[i];
  // exp overflows to infinity for very negative logits, which gives the right 0.
  affineRow(y, width, 0.0f, 1.0f / (1.0f + std::exp(-logit)), nullptr, nullptr, out);
}

/// out = x * factor.
void scaleRow(const float *x, int64_t width, float factor, float *out) {
  affineRow(x, width, 0.0f, factor, nullptr, nullptr, out);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {
namespace {

using GateRow = void(const float *x, const float *w, int64_t k, const float *y, int64_t width,
                     float *out);
using ScaleRow = void(const float *x, int64_t width, float factor, float *out);

/// Elements a part should handle at least: less is done before a worker wakes up.
constexpr int64_t kGrainElements = 16 * 1024;

class SigmoidGateKernel final : public HostKernel {
public:
  SigmoidGateKernel(const abi::SigmoidGateParams &params, const abi::StepDims &dims)
      : gateRow(SLUICE_HOST_CHOOSE(gateRow)), width(params.width), k(params.k),
        maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *y = static_cast<const float *>(args[1]), *x = static_cast<const float *>(args[2]);
    const auto *w = static_cast<const float *>(args[3]);
    auto *out = static_cast<float *>(args[4]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    pool.parallelFor(rows, std::max<int64_t>(1, kGrainElements / (width + k)),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t row = begin; row < end; ++row)
                         gateRow(x + row * k, w, k, y + row * width, width, out + row * width);
                     });
  }

private:
  GateRow *gateRow;
  int64_t width, k, maxRows;
};

class TemperatureKernel final : public HostKernel {
public:
  TemperatureKernel(const abi::TemperatureParams &params, const abi::StepDims &dims)
      : scaleRow(SLUICE_HOST_CHOOSE(scaleRow)), params(params), maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *positions = static_cast<const int32_t *>(args[1]);
    const auto *x = static_cast<const float *>(args[2]);
    auto *out = static_cast<float *>(args[3]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows), width = params.width;
    pool.parallelFor(
        rows, std::max<int64_t>(1, kGrainElements / width), [&](int64_t begin, int64_t end, int) {
          for (int64_t row = begin; row < end; ++row)
            scaleRow(x + row * width, width,
                     temperatureOf(params.scale, params.floor, positions[row] + params.offset),
                     out + row * width);
        });
  }

private:
  ScaleRow *scaleRow;
  abi::TemperatureParams params;
  int64_t maxRows;
};

} // namespace

KernelResult createTemperature(const abi::TemperatureParams &params, const abi::StepDims &dims) {
  return std::make_unique<TemperatureKernel>(params, dims);
}

KernelResult createSigmoidGate(const abi::SigmoidGateParams &params, const abi::StepDims &dims) {
  return std::make_unique<SigmoidGateKernel>(params, dims);
}

} // namespace sluice::host
#endif // HWY_ONCE
