//===- Embedding.cpp - Row lookups: embedding and gather_rows ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Both kernels copy rows that an index names; they are bound by memory, so the work is only to
// widen in registers and to use all threads when a prefill brings many rows. Indices come from the
// step's checked inputs and are trusted here.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/quant/WeightFormat.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/Embedding.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/EmbeddingElements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// out[i] = row[i] * multiplier.
template <class Elements>
HWY_INLINE void widenRow(const void *table, int64_t row, int64_t width, float multiplier,
                         float *out) {
  const auto *in = static_cast<const typename Elements::T *>(table) + row * width;
  const FloatVec factor = hn::Set(FloatTag(), multiplier);
  int64_t i = 0;
  for (; i + kFloatLanes <= width; i += kFloatLanes)
    hn::StoreU(hn::Mul(Elements::load(in + i), factor), FloatTag(), out + i);
  for (; i < width; ++i)
    out[i] = Elements::widen(in[i]) * multiplier;
}

void widenRowF32(const void *table, int64_t row, int64_t width, float multiplier, float *out) {
  widenRow<F32Elements>(table, row, width, multiplier, out);
}
void widenRowBF16(const void *table, int64_t row, int64_t width, float multiplier, float *out) {
  widenRow<BF16Elements>(table, row, width, multiplier, out);
}
void widenRowF16(const void *table, int64_t row, int64_t width, float multiplier, float *out) {
  widenRow<F16Elements>(table, row, width, multiplier, out);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {
namespace {

using WidenRow = void(const void *table, int64_t row, int64_t width, float multiplier, float *out);

/// Elements a part should move at least: less is done before a worker wakes up.
constexpr int64_t kGrainElements = 16 * 1024;

int64_t grainOf(int64_t width) { return std::max<int64_t>(1, kGrainElements / width); }

class EmbeddingKernel final : public HostKernel {
public:
  EmbeddingKernel(const abi::EmbeddingParams &params, const abi::StepDims &dims, WidenRow *widen)
      : widen(widen), hidden(params.hidden), maxRows(dims.tokens),
        multiplier(float(params.multiplier)) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *ids = static_cast<const int32_t *>(args[1]);
    const void *table = args[2];
    auto *out = static_cast<float *>(args[3]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    pool.parallelFor(rows, grainOf(hidden), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row)
        widen(table, ids[row], hidden, multiplier, out + row * hidden);
    });
  }

private:
  WidenRow *widen;
  int64_t hidden, maxRows;
  float multiplier;
};

class GatherRowsKernel final : public HostKernel {
public:
  GatherRowsKernel(const abi::GatherRowsParams &params, const abi::StepDims &dims)
      : width(params.width), maxRows(dims.logitRows) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *indices = static_cast<const int32_t *>(args[1]);
    const auto *x = static_cast<const float *>(args[2]);
    auto *out = static_cast<float *>(args[3]);
    const int64_t rows = std::min<int64_t>(header.numLogitRows, maxRows);
    pool.parallelFor(rows, grainOf(width), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row)
        std::memcpy(out + row * width, x + indices[row] * width, size_t(width) * sizeof(float));
    });
  }

private:
  int64_t width, maxRows;
};

} // namespace

KernelResult createEmbedding(const abi::EmbeddingParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::WeightFormat::parse(params.format));
  SLUICE_RETURN_IF_ERROR(quant::requireRowMajor(format));
  WidenRow *widen = nullptr;
  switch (format.element) {
  case quant::ElementType::kF32:
    widen = SLUICE_HOST_CHOOSE(widenRowF32);
    break;
  case quant::ElementType::kBF16:
    widen = SLUICE_HOST_CHOOSE(widenRowBF16);
    break;
  case quant::ElementType::kF16:
    widen = SLUICE_HOST_CHOOSE(widenRowF16);
    break;
  default:
    return unsupported("an embedding table in format \"" + params.format +
                       "\" cannot be looked up on the host; use f32, bf16 or f16");
  }
  return std::make_unique<EmbeddingKernel>(params, dims, widen);
}

KernelResult createGatherRows(const abi::GatherRowsParams &params, const abi::StepDims &dims) {
  return std::make_unique<GatherRowsKernel>(params, dims);
}

} // namespace sluice::host
#endif // HWY_ONCE
