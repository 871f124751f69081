//===- Qkv.cpp - q/k/v projection with rotation and cache write -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One parallel region for the product, one for what follows it per token. At batch 1 the second is
// a microsecond of work and runs on the calling thread.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Qkv.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/Matmul.h"

#include <algorithm>

namespace sluice::host {
namespace {

/// Elements of a finished token per part: less is done before a worker wakes up.
constexpr int64_t kGrainElements = 8 * 1024;

class QkvKernel final : public HostKernel {
public:
  QkvKernel(const abi::QkvParams &params, const abi::StepDims &dims, const Matmul &matmul)
      : params(params), matmul(matmul), finish(chooseFinishQkvToken(params.cacheType)),
        maxRows(dims.tokens), pagesPerSeq(dims.pagesPerSeq),
        elementBytes(params.cacheType == "f32" ? 4 : 2) {
    shape.qHeads = params.qHeads, shape.kvHeads = params.kvHeads;
    shape.headDim = params.headDim, shape.valueDim = params.valueDim;
    shape.pageSize = dims.pageSize;
    shape.ropeDim = params.rope.dim, shape.ropeOffset = params.rope.offset;
    shape.interleaved = params.rope.interleaved;
    shape.qkNorm = params.qkNorm;
    shape.magnitude = float(params.rope.magnitude);
    shape.clip = float(params.clip), shape.eps = float(params.eps);
  }

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *x = static_cast<const float *>(args[5]);
    auto *scratch = static_cast<float *>(args[14]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    const int64_t width = shape.projected();
    matmul.run(args[6], x, matmul.k(), rows, scratch, width, pool);
    pool.parallelFor(rows, std::max<int64_t>(1, kGrainElements / width),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t row = begin; row < end; ++row)
                         finishRow(args, scratch, row);
                     });
  }

private:
  void finishRow(void *const *args, float *scratch, int64_t row) const {
    const auto *positions = static_cast<const int32_t *>(args[1]);
    const auto *tokenSeq = static_cast<const int32_t *>(args[2]);
    const auto *kvLengths = static_cast<const int32_t *>(args[3]);
    const auto *pageTable = static_cast<const int32_t *>(args[4]);
    const int64_t position = positions[row], seq = tokenSeq[row];
    const int64_t page = pageTable[seq * pagesPerSeq + position / shape.pageSize];
    // Slot of kv head 0; the slots of further heads follow at multiples of a page.
    const int64_t slot = page * shape.kvHeads * shape.pageSize + position % shape.pageSize;

    QkvToken token;
    token.projected = scratch + row * shape.projected();
    token.bias = static_cast<const float *>(args[7]);
    token.qNorm = static_cast<const float *>(args[8]);
    token.kNorm = static_cast<const float *>(args[9]);
    token.frequencies =
        frequenciesOf(params.rope, static_cast<const float *>(args[10]), kvLengths[seq]);
    token.position = int32_t(position);
    if (params.tempFloor > 0)
      token.qScale = temperatureOf(params.tempScale, params.tempFloor, position + 1);
    token.q = static_cast<float *>(args[11]) + row * shape.qHeads * shape.headDim;
    token.keys = static_cast<std::byte *>(args[12]) + slot * shape.headDim * elementBytes;
    token.values = static_cast<std::byte *>(args[13]) + slot * shape.valueDim * elementBytes;
    finish(shape, token);
  }

  abi::QkvParams params;
  QkvShape shape;
  Matmul matmul;
  FinishQkvToken *finish;
  int64_t maxRows, pagesPerSeq, elementBytes;
};

} // namespace

KernelResult createQkv(const abi::QkvParams &params, const abi::StepDims &dims) {
  if (std::max(params.headDim, params.valueDim) > kQkvMaxHeadDim)
    return unsupported("heads of " + std::to_string(std::max(params.headDim, params.valueDim)) +
                       " entries exceed the host's limit " + std::to_string(kQkvMaxHeadDim));
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::parsePackable(params.format));
  int64_t projected =
      params.qHeads * params.headDim + params.kvHeads * (params.headDim + params.valueDim);
  SLUICE_ASSIGN_OR_RETURN(auto matmul, Matmul::create(format, projected, params.k));
  return std::make_unique<QkvKernel>(params, dims, matmul);
}

} // namespace sluice::host
