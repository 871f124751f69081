//===- Router.cpp - Router kernel -------------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Product, choice per token, counting sort. The sort is serial: it touches each pair twice, which
// is little beside the experts' work on the same pairs.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Router.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/Matmul.h"

#include <algorithm>

namespace sluice::host {
namespace {

/// Logits per part: less is done before a worker wakes up.
constexpr int64_t kGrainLogits = 2048;

class RouterKernel final : public HostKernel {
public:
  RouterKernel(const abi::RouterParams &params, const abi::StepDims &dims, const Matmul &matmul)
      : params(params), matmul(matmul), scoreRow(chooseScoreRow()), maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *x = static_cast<const float *>(args[1]);
    const auto *bias = static_cast<const float *>(args[3]);
    const auto *correction = static_cast<const float *>(args[4]);
    auto *ids = static_cast<int32_t *>(args[5]);
    auto *weights = static_cast<float *>(args[6]);
    auto *scratch = static_cast<float *>(args[11]);
    const int64_t experts = params.experts, topK = params.topK;
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    float *logits = scratch, *scores = scratch + maxRows * experts;
    auto *cursor = reinterpret_cast<int32_t *>(scratch + 2 * maxRows * experts);

    matmul.run(args[2], x, matmul.k(), rows, logits, experts, pool);
    pool.parallelFor(rows, std::max<int64_t>(1, kGrainLogits / experts),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t row = begin; row < end; ++row) {
                         float *rowLogits = logits + row * experts;
                         for (int64_t e = 0; bias && e < experts; ++e)
                           rowLogits[e] += bias[e];
                         chooseExperts(params, scoreRow, rowLogits, scores + row * experts,
                                       correction, ids + row * topK, weights + row * topK);
                       }
                     });
    sortByExpert(ids, rows, topK, experts, static_cast<int32_t *>(args[7]),
                 static_cast<int32_t *>(args[8]), static_cast<int32_t *>(args[9]),
                 static_cast<uint32_t *>(args[10]), cursor);
  }

private:
  abi::RouterParams params;
  Matmul matmul;
  ScoreRow *scoreRow;
  int64_t maxRows;
};

} // namespace

KernelResult createRouter(const abi::RouterParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::parsePackable(params.format));
  SLUICE_ASSIGN_OR_RETURN(auto matmul, Matmul::create(format, params.experts, params.hidden));
  return std::make_unique<RouterKernel>(params, dims, matmul);
}

} // namespace sluice::host
