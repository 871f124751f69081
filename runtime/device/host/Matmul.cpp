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
  out.panelMatrix = PanelMatrix(packed);
  return out;
}

void storeStrip(const float *strip, int64_t rows, int64_t width, float *out, int64_t ldo) {
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(out + r * ldo, strip + r * kStripWidth, size_t(width) * sizeof(float));
}

void Matmul::rows(const void *weight, const float *x, int64_t ldx, int64_t rows, float *out,
                  int64_t ldo, int64_t panelBegin, int64_t panelEnd) const {
  panelMatrix.forEachStrip(
      weight, rows, panelBegin, panelEnd, [&](int64_t row) { return x + row * ldx; },
      [&](const float *strip, int64_t row, int64_t height, int64_t panel, int64_t count) {
        int64_t column = panel * quant::kPanelRows;
        storeStrip(strip, height, std::min(count * quant::kPanelRows, n() - column),
                   out + row * ldo + column, ldo);
      });
}

void Matmul::run(const void *weight, const float *x, int64_t ldx, int64_t rowCount, float *out,
                 int64_t ldo, ThreadPool &pool) const {
  WorkSplit split = WorkSplit::of(rowBlocksOf(rowCount), rowCount, panels(), k(), pool.size());
  pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      int64_t row = item / split.panelBlocks * kRowBlock;
      int64_t panel = item % split.panelBlocks * split.panelsPerItem;
      rows(weight, x + row * ldx, ldx, std::min(kRowBlock, rowCount - row), out + row * ldo, ldo,
           panel, std::min(panel + split.panelsPerItem, panels()));
    }
  });
}

WorkSplit WorkSplit::of(int64_t rowBlocks, int64_t rows, int64_t panels, int64_t k, int threads,
                        int64_t panelUnit) {
  WorkSplit split;
  // Aim at a few items per thread; fewer panels per item only when there is not enough work
  // otherwise.
  int64_t wanted = int64_t(threads) * 3;
  // Few rows read weights as fast as memory gives them, best in long consecutive runs.
  const int64_t panelLimit = rows <= 8 * rowBlocks ? kMaxItemPanels : kPanelBlock;
  split.panelsPerItem =
      std::clamp(rowBlocks * panels / wanted / panelUnit * panelUnit, panelUnit, panelLimit);
  split.panelBlocks = (panels + split.panelsPerItem - 1) / split.panelsPerItem;
  split.items = rowBlocks * split.panelBlocks;
  bool tiny = rows * panels * quant::kPanelRows * k < kForkThreshold;
  split.grain = tiny ? std::max<int64_t>(split.items, 1) : 1;
  return split;
}

} // namespace sluice::host
