//===- Experts.cpp - Grouped products: experts_gate_up and experts_down -----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The router has sorted the (token, choice) pairs by expert, so each expert's rows are consecutive.
// Work is cut into (expert, row block, panel block) items over the experts that received tokens: at
// batch 1 the few chosen experts still occupy all threads, in prefill their uneven loads balance.
// The sum over a token's choices needs all its experts. For a few tokens one region does
// everything, each item summing its own columns; for many, a second region combines, so that an
// expert's weights are widened once for all of its rows. Both add choices in order with the same
// operations and give the same bits.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/GatedUnit.h"
#include "runtime/device/host/Kernels.h"

#include <array>

namespace sluice::host {
namespace {

using quant::kPanelRows;

constexpr int64_t kMaxExperts = 4096; ///< the limit of the families' range checks

/// The experts with rows, and where their row blocks begin in the list of all row blocks.
class ActiveExperts {
public:
  ActiveExperts(const int32_t *offsets, int64_t experts) : offsets(offsets) {
    for (int64_t e = 0; e < experts; ++e) {
      int64_t rows = offsets[e + 1] - offsets[e];
      if (rows <= 0)
        continue;
      ids[size_t(count)] = int32_t(e);
      firstBlock[size_t(count++)] = int32_t(totalBlocks);
      totalBlocks += rowBlocksOf(rows);
    }
  }

  struct Block {
    int64_t expert, row, height; ///< rows are expert-major, over the whole batch
  };
  Block block(int64_t index) const {
    const auto *begin = firstBlock.data();
    int64_t i = std::upper_bound(begin, begin + count, int32_t(index)) - begin - 1;
    int64_t expert = ids[size_t(i)];
    int64_t row = offsets[expert] + (index - begin[i]) * kRowBlock;
    return {expert, row, std::min<int64_t>(kRowBlock, offsets[expert + 1] - row)};
  }
  int64_t blocks() const { return totalBlocks; }

private:
  const int32_t *offsets;
  std::array<int32_t, kMaxExperts> ids, firstBlock;
  int64_t count = 0, totalBlocks = 0;
};

const void *expertBlob(const void *weights, int64_t expert, uint64_t blobBytes) {
  return static_cast<const std::byte *>(weights) + uint64_t(expert) * blobBytes;
}

class ExpertsGateUpKernel final : public HostKernel {
public:
  ExpertsGateUpKernel(const abi::ExpertsGateUpParams &params, const quant::PackedLayout &layout)
      : unit(layout, GatedEpilogue::of(params.act)), experts(params.experts), topK(params.topK),
        weightOnInput(params.weightOnInput) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto *x = static_cast<const float *>(args[1]);
    const auto *offsets = static_cast<const int32_t *>(args[2]);
    const auto *order = static_cast<const int32_t *>(args[3]);
    const auto *pairWeights = static_cast<const float *>(args[4]);
    const void *weights = args[5];
    const auto *bias = static_cast<const float *>(args[6]);
    auto *out = static_cast<float *>(args[7]);
    const int64_t n = unit.n(), k = unit.k(), panels = unit.panels();
    const ActiveExperts active(offsets, experts);
    WorkSplit split =
        WorkSplit::of(active.blocks(), offsets[experts], panels, k, pool.size(), /*panelUnit=*/2);
    pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        auto [expert, row, height] = active.block(item / split.panelBlocks);
        int64_t panel = item % split.panelBlocks * split.panelsPerItem;
        // A factor of the input is a factor of the product, which is cheaper to scale.
        float rowScale[kRowBlock];
        for (int64_t r = 0; weightOnInput && r < height; ++r)
          rowScale[r] = pairWeights[order[row + r]];
        unit.run(expertBlob(weights, expert, unit.blobBytes()),
                 bias ? bias + expert * 2 * n : nullptr, weightOnInput ? rowScale : nullptr, height,
                 panel, std::min(panel + split.panelsPerItem, panels), out + row * n,
                 [&, row = row](int64_t r) { return x + order[row + r] / topK * k; });
      }
    });
  }

private:
  GatedUnit unit;
  int64_t experts, topK;
  bool weightOnInput;
};

class ExpertsDownKernel final : public HostKernel {
public:
  ExpertsDownKernel(const abi::ExpertsDownParams &params, const abi::StepDims &dims,
                    const quant::PackedLayout &layout)
      : layout(layout), matrix(layout), ops(chooseEpilogueOps()), experts(params.experts),
        topK(params.topK), maxTokens(dims.tokens), weightOnInput(params.weightOnInput) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    Call call;
    call.h = static_cast<const float *>(args[1]);
    call.offsets = static_cast<const int32_t *>(args[2]);
    call.inverse = static_cast<const int32_t *>(args[4]);
    call.pairWeights = static_cast<const float *>(args[5]);
    call.weights = args[6];
    call.bias = static_cast<const float *>(args[7]);
    call.out = static_cast<float *>(args[8]);
    call.scratch = static_cast<float *>(args[9]);
    call.tokens = std::min<int64_t>(header.numTokens, maxTokens);
    if (call.tokens * topK <= kFusedPairs)
      runFused(call, pool);
    else
      runGrouped(call, pool);
  }

private:
  /// Up to here the experts of different tokens are mostly different, and grouping rows gains
  /// nothing.
  static constexpr int64_t kFusedPairs = 32;

  struct Call {
    const float *h, *pairWeights, *bias;
    const int32_t *offsets, *inverse;
    const void *weights;
    float *out, *scratch;
    int64_t tokens;
  };

  float weightOf(const Call &call, int64_t pair) const {
    return weightOnInput ? 1.0f : call.pairWeights[pair];
  }

  void runFused(const Call &call, ThreadPool &pool) const {
    const int64_t panels = layout.panels(), pairs = call.tokens * topK;
    int32_t expertOf[kFusedPairs];
    for (int64_t pair = 0; pair < pairs; ++pair)
      if (call.inverse[pair] >= 0)
        expertOf[pair] =
            int32_t(std::upper_bound(call.offsets, call.offsets + experts + 1, call.inverse[pair]) -
                    call.offsets - 1);
    WorkSplit split = WorkSplit::of(1, pairs, panels, layout.k(), pool.size());
    pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
      const int64_t lastPanel = std::min(end * split.panelsPerItem, panels);
      for (int64_t first = begin * split.panelsPerItem; first < lastPanel; first += kPanelBlock)
        sumChoices(call, expertOf, first, std::min(first + kPanelBlock, lastPanel));
    });
  }

  /// The output columns of panels [first, last), at most kPanelBlock of them, for every token.
  void sumChoices(const Call &call, const int32_t *expertOf, int64_t first, int64_t last) const {
    const int64_t n = layout.n(), k = layout.k();
    const int64_t column = first * kPanelRows, width = std::min(last * kPanelRows, n) - column;
    for (int64_t token = 0; token < call.tokens; ++token) {
      alignas(64) float sum[kStripWidth] = {};
      for (int64_t pair = token * topK; pair < (token + 1) * topK; ++pair) {
        if (call.inverse[pair] < 0)
          continue;
        int64_t expert = expertOf[pair];
        matrix.forEachStrip(
            expertBlob(call.weights, expert, layout.blobBytes()), 1, first, last,
            [&](int64_t) { return call.h + call.inverse[pair] * k; },
            [&](float *strip, int64_t, int64_t height, int64_t panel, int64_t count) {
              addBias(call, expert, strip, height, panel, count);
              ops.addScaled(sum, strip, weightOf(call, pair), width);
            });
      }
      std::memcpy(call.out + token * n + column, sum, size_t(width) * sizeof(float));
    }
  }

  void runGrouped(const Call &call, ThreadPool &pool) const {
    const int64_t n = layout.n(), k = layout.k(), panels = layout.panels();
    const ActiveExperts active(call.offsets, experts);
    WorkSplit split = WorkSplit::of(active.blocks(), call.offsets[experts], panels, k, pool.size());
    pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        ActiveExperts::Block block = active.block(item / split.panelBlocks);
        int64_t first = item % split.panelBlocks * split.panelsPerItem;
        matrix.forEachStrip(
            expertBlob(call.weights, block.expert, layout.blobBytes()), block.height, first,
            std::min(first + split.panelsPerItem, panels),
            [&](int64_t r) { return call.h + (block.row + r) * k; },
            [&](float *strip, int64_t row, int64_t height, int64_t panel, int64_t count) {
              addBias(call, block.expert, strip, height, panel, count);
              int64_t column = panel * kPanelRows;
              storeStrip(strip, height, std::min(count * kPanelRows, n - column),
                         call.scratch + (block.row + row) * n + column, n);
            });
      }
    });
    int64_t tokensPerPart = std::max<int64_t>(1, call.tokens / (int64_t(pool.size()) * 4));
    pool.parallelFor(call.tokens, tokensPerPart, [&](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) {
        float *out = call.out + token * n;
        std::fill_n(out, n, 0.0f);
        for (int64_t pair = token * topK; pair < (token + 1) * topK; ++pair)
          if (call.inverse[pair] >= 0)
            ops.addScaled(out, call.scratch + call.inverse[pair] * n, weightOf(call, pair), n);
      }
    });
  }

  void addBias(const Call &call, int64_t expert, float *strip, int64_t rows, int64_t panel,
               int64_t count) const {
    if (!call.bias)
      return;
    alignas(64) float stripBias[kStripWidth] = {};
    int64_t column = panel * kPanelRows;
    std::memcpy(stripBias, call.bias + expert * layout.n() + column,
                size_t(std::min(count * kPanelRows, layout.n() - column)) * sizeof(float));
    ops.linear(LinearEpilogue(), strip, rows, count, stripBias);
  }

  quant::PackedLayout layout;
  PanelMatrix matrix;
  EpilogueOps ops;
  int64_t experts, topK, maxTokens;
  bool weightOnInput;
};

template <typename ExpertsParams>
Result<quant::PackedLayout> expertsLayout(const char *layout, const ExpertsParams &params) {
  if (params.experts > kMaxExperts)
    return unsupported("the layer has " + std::to_string(params.experts) +
                       " experts; host kernels handle up to " + std::to_string(kMaxExperts));
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::parsePackable(params.format));
  return quant::PackedLayout::create(layout, format, params.n, params.k, params.experts);
}

} // namespace

KernelResult createExpertsGateUp(const abi::ExpertsGateUpParams &params, const abi::StepDims &) {
  SLUICE_ASSIGN_OR_RETURN(auto layout, expertsLayout("gate_up_panel16", params));
  return std::make_unique<ExpertsGateUpKernel>(params, layout);
}

KernelResult createExpertsDown(const abi::ExpertsDownParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(auto layout, expertsLayout("panel16", params));
  return std::make_unique<ExpertsDownKernel>(params, dims, layout);
}

} // namespace sluice::host
