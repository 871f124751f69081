//===- Linear.cpp - Dense products: linear and ffn_gate_up ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Both kernels are one parallel region over (row block, panel block) items: product into a strip,
// epilogue on the strip, store.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/GatedUnit.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/Matmul.h"

#include <cstring>

namespace sluice::host {
namespace {

using quant::kPanelRows;

class LinearKernel final : public HostKernel {
public:
  LinearKernel(const abi::LinearParams &params, const abi::StepDims &dims, const Matmul &matmul)
      : matmul(matmul),
        ops(chooseEpilogueOps()), epilogue{float(params.scale), float(params.softcap)},
        rowSet(params.rows),
        maxRows(params.rows == abi::RowSet::kTokens ? dims.tokens : dims.logitRows),
        plain(!params.bias && params.scale == 1 && params.softcap == 0) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *x = static_cast<const float *>(args[1]);
    const void *weight = args[2];
    const auto *bias = static_cast<const float *>(args[3]);
    auto *out = static_cast<float *>(args[4]);
    const int64_t n = matmul.n(), k = matmul.k(), panels = matmul.panels();
    const int64_t rows = std::min<int64_t>(
        rowSet == abi::RowSet::kTokens ? header.numTokens : header.numLogitRows, maxRows);
    if (plain)
      return matmul.run(weight, x, k, rows, out, n, pool);

    WorkSplit split = WorkSplit::of(rowBlocksOf(rows), rows, panels, k, pool.size());
    pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        int64_t firstRow = item / split.panelBlocks * kRowBlock;
        int64_t firstPanel = item % split.panelBlocks * split.panelsPerItem;
        matmul.matrix().forEachStrip(
            weight, std::min(kRowBlock, rows - firstRow), firstPanel,
            std::min(firstPanel + split.panelsPerItem, panels),
            [&](int64_t row) { return x + (firstRow + row) * k; },
            [&](float *strip, int64_t row, int64_t height, int64_t panel, int64_t count) {
              alignas(64) float stripBias[kStripWidth] = {};
              int64_t column = panel * kPanelRows;
              int64_t width = std::min(count * kPanelRows, n - column);
              if (bias)
                std::memcpy(stripBias, bias + column, size_t(width) * sizeof(float));
              ops.linear(epilogue, strip, height, count, stripBias);
              storeStrip(strip, height, width, out + (firstRow + row) * n + column, n);
            });
      }
    });
  }

private:
  Matmul matmul;
  EpilogueOps ops;
  LinearEpilogue epilogue;
  abi::RowSet rowSet;
  int64_t maxRows;
  bool plain;
};

class FfnGateUpKernel final : public HostKernel {
public:
  FfnGateUpKernel(const abi::FfnGateUpParams &params, const abi::StepDims &dims,
                  const quant::PackedLayout &layout)
      : unit(layout, GatedEpilogue::of(params.act)), maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *x = static_cast<const float *>(args[1]);
    const void *weight = args[2];
    const auto *bias = static_cast<const float *>(args[3]);
    auto *out = static_cast<float *>(args[4]);
    const int64_t n = unit.n(), k = unit.k(), panels = unit.panels();
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    WorkSplit split = WorkSplit::of(rowBlocksOf(rows), rows, panels, k, pool.size(), 2);
    pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        int64_t row = item / split.panelBlocks * kRowBlock;
        int64_t panel = item % split.panelBlocks * split.panelsPerItem;
        unit.run(weight, bias, nullptr, std::min(kRowBlock, rows - row), panel,
                 std::min(panel + split.panelsPerItem, panels), out + row * n,
                 [&](int64_t r) { return x + (row + r) * k; });
      }
    });
  }

private:
  GatedUnit unit;
  int64_t maxRows;
};

} // namespace

KernelResult createLinear(const abi::LinearParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::parsePackable(params.format));
  SLUICE_ASSIGN_OR_RETURN(auto matmul, Matmul::create(format, params.n, params.k));
  return std::make_unique<LinearKernel>(params, dims, matmul);
}

KernelResult createFfnGateUp(const abi::FfnGateUpParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::parsePackable(params.format));
  SLUICE_ASSIGN_OR_RETURN(
      auto layout, quant::PackedLayout::create("gate_up_panel16", format, params.n, params.k));
  return std::make_unique<FfnGateUpKernel>(params, dims, layout);
}

} // namespace sluice::host
