//===- Matmul.cpp - Products of activations and packed weights --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Blocking above the register tiles: rows come in blocks whose activations stay in the second-level
// cache while a few panels pass over them, and results go through a small strip on the stack, so
// that the SIMD code may always write whole panels.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Matmul.h"

#include <algorithm>
#include <cstring>

namespace sluice::host {
namespace {

/// Multiply-adds below which forking costs more than it saves (about two microseconds of work).
constexpr int64_t kForkThreshold = 64 * 1024;

} // namespace

Result<Matmul> Matmul::create(const quant::WeightFormat &format, int64_t n, int64_t k) {
  SLUICE_ASSIGN_OR_RETURN(auto packed, quant::PackedLayout::create("panel16", format, n, k));
  Matmul out;
  out.layout = packed;
  out.product = choosePanelProduct(format);
  return out;
}

void Matmul::rows(const void *weight, const float *x, int64_t ldx, int64_t rows, float *out,
                  int64_t ldo, int64_t panelBegin, int64_t panelEnd) const {
  alignas(64) float strip[kRowBlock * kStripWidth];
  const float *pointers[kRowBlock];
  for (int64_t row = 0; row < rows; row += kRowBlock) {
    int64_t height = std::min(kRowBlock, rows - row);
    for (int64_t r = 0; r < height; ++r)
      pointers[r] = x + (row + r) * ldx;
    for (int64_t panel = panelBegin; panel < panelEnd; panel += kPanelBlock) {
      int64_t count = std::min(kPanelBlock, panelEnd - panel);
      int64_t column = panel * quant::kPanelRows;
      const auto *panels =
          static_cast<const std::byte *>(weight) + uint64_t(panel) * layout.panelBytes();
      product(pointers, height, k(), panels, count, strip, kStripWidth);
      int64_t width = std::min(count * quant::kPanelRows, n() - column);
      for (int64_t r = 0; r < height; ++r)
        std::memcpy(out + (row + r) * ldo + column, strip + r * kStripWidth,
                    size_t(width) * sizeof(float));
    }
  }
}

void Matmul::run(const void *weight, const float *x, int64_t ldx, int64_t rowCount, float *out,
                 int64_t ldo, ThreadPool &pool) const {
  WorkSplit split = WorkSplit::of(rowCount, panels(), k(), pool.size());
  pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      int64_t row = item / split.panelBlocks * kRowBlock;
      int64_t panel = item % split.panelBlocks * split.panelsPerItem;
      rows(weight, x + row * ldx, ldx, std::min(kRowBlock, rowCount - row), out + row * ldo, ldo,
           panel, std::min(panel + split.panelsPerItem, panels()));
    }
  });
}

WorkSplit WorkSplit::of(int64_t rows, int64_t panels, int64_t k, int threads, int64_t panelUnit) {
  WorkSplit split;
  int64_t rowBlocks = (rows + kRowBlock - 1) / kRowBlock;
  // Aim at a few items per thread; fewer panels per item only when there is not enough work
  // otherwise.
  int64_t wanted = int64_t(threads) * 3;
  split.panelsPerItem = std::clamp(rowBlocks * panels / wanted / panelUnit * panelUnit, panelUnit,
                                   std::max(kPanelBlock, panelUnit));
  split.panelBlocks = (panels + split.panelsPerItem - 1) / split.panelsPerItem;
  split.items = rowBlocks * split.panelBlocks;
  bool tiny = rows * panels * quant::kPanelRows * k < kForkThreshold;
  split.grain = tiny ? std::max<int64_t>(split.items, 1) : 1;
  return split;
}

} // namespace sluice::host
