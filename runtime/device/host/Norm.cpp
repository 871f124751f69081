//===- Norm.cpp - Row-wise kernels: norm, residual_norm, residual -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Rows are independent and parts of a row never split between threads, so results do not depend on
// the batch. Layer norm makes a second pass for the variance around the mean: rows stay in the
// first-level cache, and the one-pass formula loses digits.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/Norm.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormRow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void normRow(abi::NormKind kind, int64_t n, float eps, const float *x, const float *weight,
             const float *bias, float *out) {
  if (kind == abi::NormKind::kLayer) {
    const float mean = sumOfPowers<1>(x, n, 0.0f) / float(n);
    const float variance = sumOfPowers<2>(x, n, mean) / float(n);
    return affineRow(x, n, mean, 1.0f / std::sqrt(variance + eps), weight, bias, out);
  }
  affineRow(x, n, 0.0f, inverseRms(x, n, eps), weight, bias, out);
}

/// out = a + multiplier * b; out may be a or b.
void addRow(int64_t n, float multiplier, const float *a, const float *b, float *out) {
  const FloatTag d;
  const FloatVec factor = hn::Set(d, multiplier);
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes)
    hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, b + i), hn::LoadU(d, a + i)), d, out + i);
  for (; i < n; ++i)
    out[i] = a[i] + multiplier * b[i];
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {
namespace {

using NormRow = void(abi::NormKind kind, int64_t n, float eps, const float *x, const float *weight,
                     const float *bias, float *out);
using AddRow = void(int64_t n, float multiplier, const float *a, const float *b, float *out);

/// Elements a part should handle at least: less is done before a worker wakes up.
constexpr int64_t kGrainElements = 16 * 1024;

int64_t grainOf(int64_t width) { return std::max<int64_t>(1, kGrainElements / width); }

class NormKernel final : public HostKernel {
public:
  NormKernel(const abi::NormParams &params, const abi::StepDims &dims)
      : normRow(SLUICE_HOST_CHOOSE(normRow)), kind(params.kind), rowSet(params.rows),
        width(params.width), group(params.width / params.groups), eps(float(params.eps)),
        maxRows(params.rows == abi::RowSet::kTokens ? dims.tokens : dims.logitRows) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *x = static_cast<const float *>(args[1]);
    const auto *weight = static_cast<const float *>(args[2]);
    const auto *bias = static_cast<const float *>(args[3]);
    auto *out = static_cast<float *>(args[4]);
    const int64_t rows = std::min<int64_t>(
        rowSet == abi::RowSet::kTokens ? header.numTokens : header.numLogitRows, maxRows);
    pool.parallelFor(rows, grainOf(width), [&](int64_t begin, int64_t end, int) {
      for (int64_t at = begin * width; at < end * width; at += group)
        normRow(kind, group, eps, x + at, weight, bias, out + at);
    });
  }

private:
  NormRow *normRow;
  abi::NormKind kind;
  abi::RowSet rowSet;
  int64_t width, group;
  float eps;
  int64_t maxRows;
};

class ResidualNormKernel final : public HostKernel {
public:
  ResidualNormKernel(const abi::ResidualNormParams &params, const abi::StepDims &dims)
      : normRow(SLUICE_HOST_CHOOSE(normRow)), addRow(SLUICE_HOST_CHOOSE(addRow)), kind(params.kind),
        width(params.width), eps(float(params.eps)), multiplier(float(params.multiplier)),
        maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *residual = static_cast<const float *>(args[1]);
    const auto *delta = static_cast<const float *>(args[2]);
    const auto *weight = static_cast<const float *>(args[3]);
    const auto *bias = static_cast<const float *>(args[4]);
    auto *residualOut = static_cast<float *>(args[5]);
    auto *out = static_cast<float *>(args[6]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    pool.parallelFor(rows, grainOf(width), [&](int64_t begin, int64_t end, int) {
      for (int64_t at = begin * width; at < end * width; at += width) {
        addRow(width, multiplier, residual + at, delta + at, residualOut + at);
        normRow(kind, width, eps, residualOut + at, weight, bias, out + at);
      }
    });
  }

private:
  NormRow *normRow;
  AddRow *addRow;
  abi::NormKind kind;
  int64_t width;
  float eps, multiplier;
  int64_t maxRows;
};

class ResidualKernel final : public HostKernel {
public:
  ResidualKernel(const abi::ResidualParams &params, const abi::StepDims &dims)
      : addRow(SLUICE_HOST_CHOOSE(addRow)), width(params.width),
        multiplier(float(params.multiplier)), maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *a = static_cast<const float *>(args[1]);
    const auto *b = static_cast<const float *>(args[2]);
    auto *out = static_cast<float *>(args[3]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    pool.parallelFor(rows, grainOf(width), [&](int64_t begin, int64_t end, int) {
      for (int64_t at = begin * width; at < end * width; at += width)
        addRow(width, multiplier, a + at, b + at, out + at);
    });
  }

private:
  AddRow *addRow;
  int64_t width;
  float multiplier;
  int64_t maxRows;
};

} // namespace

KernelResult createNorm(const abi::NormParams &params, const abi::StepDims &dims) {
  return std::make_unique<NormKernel>(params, dims);
}

KernelResult createResidualNorm(const abi::ResidualNormParams &params, const abi::StepDims &dims) {
  return std::make_unique<ResidualNormKernel>(params, dims);
}

KernelResult createResidual(const abi::ResidualParams &params, const abi::StepDims &dims) {
  return std::make_unique<ResidualKernel>(params, dims);
}

} // namespace sluice::host
#endif // HWY_ONCE
