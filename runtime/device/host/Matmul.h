//===- Matmul.h - Products of activations and packed weights ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// out[rows, N] = x[rows, K] · W[N, K]^T with float32 activations and W in the panel16 layout
// (runtime/quant/PackedLayout.h). A product is split by panels of 16 outputs; any thread may
// compute any range of rows and panels. Every output is one chain of fused multiply-adds over
// ascending k on AVX2 and AVX-512 (separate multiply and add on the portable target), whatever the
// number of rows, so a token's result depends neither on the threads nor on the batch it is
// computed in. With quantised weights there is such a chain over the codes of each group, whose
// result is multiplied by the group's scale as it is added to the output, again in ascending order:
// weights are turned into numbers in registers or in blocks that stay in the first-level cache, and
// rounding is that of float32 sums only.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_MATMUL_H
#define SLUICE_RUNTIME_DEVICE_HOST_MATMUL_H

#include "runtime/device/host/ThreadPool.h"
#include "runtime/quant/PackedLayout.h"

#include <algorithm>
#include <cstdint>

namespace sluice::host {

/// Rows of one call of a PanelProduct, and panels of one: what a caller's stack buffer must hold.
inline constexpr int64_t kRowBlock = 96;
inline constexpr int64_t kPanelBlock = 4;
/// Panels of one item of a WorkSplit at most.
inline constexpr int64_t kMaxItemPanels = 4 * kPanelBlock;
inline constexpr int64_t kStripWidth = kPanelBlock * quant::kPanelRows;

/// What a product must know about a panel beside its element type. A number stands for the shape of
/// an unquantised panel with so many columns.
struct PanelShape {
  int64_t k = 0;
  int64_t groupCols = 0; ///< quantised: columns that share a scale, at most k
  quant::ScaleType scale = quant::ScaleType::kNone;

  PanelShape() = default;
  PanelShape(int64_t k) : k(k) {}
  explicit PanelShape(const quant::PackedLayout &layout)
      : k(layout.k()), groupCols(layout.format().groupColumns(k)), scale(layout.format().scale) {}
};

/// out[r * ldo + c] = Σ_k x[r][k] * w(k, c) for `rows` <= kRowBlock row pointers and the columns of
/// `panels` <= kPanelBlock consecutive panels starting at `weight`. Writes all 16 columns of every
/// panel; out must not overlap x. Thread-safe.
using PanelProduct = void(const float *const *x, int64_t rows, const PanelShape &shape,
                          const void *weight, int64_t panels, float *out, int64_t ldo);

/// The SIMD variant of the product for a weight format; the format must be packable.
PanelProduct *choosePanelProduct(const quant::WeightFormat &format);

/// The part of choosePanelProduct() for quantised formats, by the type of their codes.
PanelProduct *chooseQuantProduct(quant::ElementType type);

/// The panels of one blob and the product that reads them. A plain value, safe to share.
struct PanelMatrix {
  PanelProduct *product = nullptr;
  PanelShape shape;
  uint64_t panelBytes = 0;

  PanelMatrix() = default;
  explicit PanelMatrix(const quant::PackedLayout &layout)
      : product(choosePanelProduct(layout.format())), shape(layout),
        panelBytes(layout.panelBytes()) {}

  /// Computes panels [panelBegin, panelEnd) of `blob` for rows [0, rows), strip by strip. rowOf(r)
  /// gives the float32 [k] row r; sink(strip, row, height, panel, count) takes the results of rows
  /// [row, row + height) and panels [panel, panel + count), stored [height][kStripWidth].
  template <typename RowOf, typename Sink>
  void forEachStrip(const void *blob, int64_t rows, int64_t panelBegin, int64_t panelEnd,
                    const RowOf &rowOf, const Sink &sink) const {
    alignas(64) float strip[kRowBlock * kStripWidth];
    const float *pointers[kRowBlock];
    for (int64_t row = 0; row < rows; row += kRowBlock) {
      int64_t height = std::min(kRowBlock, rows - row);
      for (int64_t r = 0; r < height; ++r)
        pointers[r] = rowOf(row + r);
      for (int64_t panel = panelBegin; panel < panelEnd; panel += kPanelBlock) {
        int64_t count = std::min(kPanelBlock, panelEnd - panel);
        product(pointers, height, shape,
                static_cast<const std::byte *>(blob) + uint64_t(panel) * panelBytes, count, strip,
                kStripWidth);
        sink(strip, row, height, panel, count);
      }
    }
  }
};

/// A matrix prepared for products: shape and SIMD variant. The weights are passed at run time. A
/// plain value, safe to share between threads.
class Matmul {
public:
  Matmul() = default;
  /// Fails when the format or shape cannot be packed.
  static Result<Matmul> create(const quant::WeightFormat &format, int64_t n, int64_t k);

  int64_t n() const { return layout.n(); }
  int64_t k() const { return layout.k(); }
  int64_t panels() const { return layout.panels(); }
  const quant::PackedLayout &packed() const { return layout; }
  const PanelMatrix &matrix() const { return panelMatrix; }

  /// Computes columns [panelBegin * 16, min(panelEnd * 16, n)) of out[rows, n] (row stride `ldo`)
  /// from x[rows, k] (row stride `ldx`). For use inside a part of a parallelFor; allocates nothing.
  void rows(const void *weight, const float *x, int64_t ldx, int64_t rows, float *out, int64_t ldo,
            int64_t panelBegin, int64_t panelEnd) const;

  /// The whole product as one parallel region of `pool`.
  void run(const void *weight, const float *x, int64_t ldx, int64_t rows, float *out, int64_t ldo,
           ThreadPool &pool) const;

private:
  quant::PackedLayout layout;
  PanelMatrix panelMatrix;
};

/// How products are cut into items for a pool: item = rowBlock * panelBlocks + panelBlock, a row
/// block being kRowBlock rows. Small products stay in one part, because a fork costs more than they
/// do.
struct WorkSplit {
  int64_t panelsPerItem = 1, panelBlocks = 1, items = 1, grain = 1;

  /// For `rowBlocks` blocks of `rows` rows in all, each over `panels` panels of `k` steps.
  /// `panelUnit`: panels that must stay together (2 for gate and up).
  static WorkSplit of(int64_t rowBlocks, int64_t rows, int64_t panels, int64_t k, int threads,
                      int64_t panelUnit = 1);
};

/// The number of row blocks that `rows` rows make.
inline int64_t rowBlocksOf(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }

/// Copies the first `width` columns of a strip's rows to out[.., ldo].
void storeStrip(const float *strip, int64_t rows, int64_t width, float *out, int64_t ldo);

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_MATMUL_H
