//===- RoundRows.cpp - Activations as tensor cores see them -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Hardware that multiplies E4M3 numbers gets activations with a scale per 128 columns, chosen in
// the step. This rounds them to the same numbers and leaves them float32, so that the host computes
// what such hardware does, up to the order of sums. Adding half a unit of the last kept bit rounds
// to nearest even without branches; numbers below the smallest normal one share its unit.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>

namespace sluice::host {
namespace {

constexpr int64_t kGroup = 128;
constexpr float kLargest = 448, kSmallestNormal = 0x1p-6f;
/// Numbers of one part of a parallel region: enough to be worth a fork.
constexpr int64_t kGrainElements = 1 << 14;

/// The nearest E4M3 number to a value of at most 448.
inline float roundE4M3(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  float normal = std::bit_cast<float>((bits + 0x7ffffu + ((bits >> 20) & 1u)) & ~0xfffffu);
  // The sum has no bits below 2^-9, the unit of subnormal codes.
  float subnormal = (x + 0x1.8p14f) - 0x1.8p14f;
  return std::fabs(x) < kSmallestNormal ? subnormal : normal;
}

void roundGroup(const float *x, int64_t count, float *out) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i)
    largest = std::max(largest, std::fabs(x[i]));
  float scale = largest / kLargest;
  scale = scale >= FLT_MIN ? scale : 1.0f;
  for (int64_t i = 0; i < count; ++i)
    out[i] = roundE4M3(std::clamp(x[i] / scale, -kLargest, kLargest)) * scale;
}

class RoundRowsKernel final : public HostKernel {
public:
  RoundRowsKernel(const abi::RoundRowsParams &params, const abi::StepDims &dims)
      : width(params.width), rowSet(params.rows),
        maxRows(params.rows == abi::RowSet::kTokens ? dims.tokens : dims.logitRows) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *x = static_cast<const float *>(args[1]);
    auto *out = static_cast<float *>(args[2]);
    const int64_t rows = std::min<int64_t>(
        rowSet == abi::RowSet::kTokens ? header.numTokens : header.numLogitRows, maxRows);
    pool.parallelFor(rows, std::max<int64_t>(1, kGrainElements / width),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t row = begin; row < end; ++row)
                         for (int64_t column = 0; column < width; column += kGroup)
                           roundGroup(x + row * width + column, std::min(kGroup, width - column),
                                      out + row * width + column);
                     });
  }

private:
  int64_t width;
  abi::RowSet rowSet;
  int64_t maxRows;
};

} // namespace

KernelResult createRoundRows(const abi::RoundRowsParams &params, const abi::StepDims &dims) {
  return std::make_unique<RoundRowsKernel>(params, dims);
}

} // namespace sluice::host
