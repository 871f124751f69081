//===- Matmul.h - Products of activations and packed weights ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// out[rows, N] = x[rows, K] · W[N, K]^T with float32 activations and W in the panel16 layout
// (runtime/quant/PackedLayout.h). A product is split by panels of 16 outputs; any thread may
// compute any range of rows and panels. Every output is one chain of fused multiply-adds over
// ascending k on AVX2 and AVX-512 (separate multiply and add on the portable target), whatever the
// number of rows, so a token's result depends neither on the threads nor on the batch it is
// computed in.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_MATMUL_H
#define SLUICE_RUNTIME_DEVICE_HOST_MATMUL_H

#include "runtime/device/host/ThreadPool.h"
#include "runtime/quant/PackedLayout.h"

#include <cstdint>

namespace sluice::host {

/// Rows of one call of a PanelProduct, and panels of one: what a caller's stack buffer must hold.
inline constexpr int64_t kRowBlock = 96;
inline constexpr int64_t kPanelBlock = 4;
inline constexpr int64_t kStripWidth = kPanelBlock * quant::kPanelRows;

/// out[r * ldo + c] = Σ_k x[r][k] * w(k, c) for `rows` <= kRowBlock row pointers and the columns of
/// `panels` <= kPanelBlock consecutive panels starting at `weight`. Writes all 16 columns of every
/// panel; out must not overlap x. Thread-safe.
using PanelProduct = void(const float *const *x, int64_t rows, int64_t k, const void *weight,
                          int64_t panels, float *out, int64_t ldo);

/// The SIMD variant of the product for a weight format; the format must be packable.
PanelProduct *choosePanelProduct(const quant::WeightFormat &format);

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

  /// Computes columns [panelBegin * 16, min(panelEnd * 16, n)) of out[rows, n] (row stride `ldo`)
  /// from x[rows, k] (row stride `ldx`). For use inside a part of a parallelFor; allocates nothing.
  void rows(const void *weight, const float *x, int64_t ldx, int64_t rows, float *out, int64_t ldo,
            int64_t panelBegin, int64_t panelEnd) const;

  /// The whole product as one parallel region of `pool`.
  void run(const void *weight, const float *x, int64_t ldx, int64_t rows, float *out, int64_t ldo,
           ThreadPool &pool) const;

private:
  quant::PackedLayout layout;
  PanelProduct *product = nullptr;
};

/// How a product [rows, panels] is cut into items for a pool: item = rowBlock * panelBlocks +
/// panelBlock. Small products stay in one part, because a fork costs more than they do.
struct WorkSplit {
  int64_t panelsPerItem = 1, panelBlocks = 1, items = 1, grain = 1;

  /// `panelUnit`: panels that must stay together (2 for gate and up).
  static WorkSplit of(int64_t rows, int64_t panels, int64_t k, int threads, int64_t panelUnit = 1);
};

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_MATMUL_H
