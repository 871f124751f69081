//===- MatmulSimd.cpp - Panel products with SIMD ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One register tile serves both ends of the range of batch sizes. It holds R rows x P panels of
// accumulators and walks k; at each step it loads 16 weights per panel and broadcasts one
// activation per row. Few rows (decode): P grows, so that enough independent chains of
// multiply-adds hide their latency while the weights are widened in registers and read exactly
// once. Many rows (prefill): a block of k is widened once to a float32 buffer that stays in the
// first-level cache, and tiles of rows run over it; activations are read in place, because a
// broadcast does not need them packed. All tiles add in the same order (see Matmul.h).
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Matmul.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/MatmulSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include "runtime/device/host/MatmulTile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Rows from which widening a block once costs less than widening it in every row tile.
constexpr int kWidenRows = 48;

/// Loads kLanes stored weights as float32.
struct F32Weights {
  using T = float;
  static HWY_INLINE V load(const float *p) { return hn::LoadU(D(), p); }
};
struct BF16Weights {
  using T = hwy::bfloat16_t;
  static HWY_INLINE V load(const T *p) {
    return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<T, D>(), p));
  }
};
struct F16Weights {
  using T = hwy::float16_t;
  static HWY_INLINE V load(const T *p) {
    return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<T, D>(), p));
  }
};

/// Adds k in [0, count) of R rows x P panels to `out` (or overwrites it when `first`). x points at
/// step 0 of each row; panels are `stride` elements apart. Ahead: also fetch the same steps of the
/// next P panels into the cache.
template <class Weights, int R, int P, bool Ahead = false>
HWY_INLINE void tile(const float *const *x, int64_t count, const typename Weights::T *w,
                     int64_t stride, bool first, float *out, int64_t ldo) {
  const D d;
  V sum[R][P * kVecs];
  const float *row[R];
  for (int r = 0; r < R; ++r) {
    row[r] = x[r];
    for (int v = 0; v < P * kVecs; ++v)
      sum[r][v] = first ? hn::Zero(d) : hn::LoadU(d, out + r * ldo + v * kLanes);
  }
  for (int64_t k = 0; k < count; ++k) {
    V weights[P * kVecs];
    for (int p = 0; Ahead && p < P; ++p)
      hwy::Prefetch(w + (P + p) * stride + k * 16);
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < kVecs; ++v)
        weights[p * kVecs + v] = Weights::load(w + p * stride + k * 16 + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const V a = hn::Set(d, row[r][k]);
      for (int v = 0; v < P * kVecs; ++v)
        sum[r][v] = hn::MulAdd(a, weights[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < P * kVecs; ++v)
      hn::StoreU(sum[r][v], d, out + r * ldo + v * kLanes);
}

/// All panels for exactly R <= kDirectRows rows, straight from the stored weights.
template <class Weights, int R>
void direct(const float *const *x, int64_t k, const typename Weights::T *w, int64_t panels,
            float *out, int64_t ldo) {
  constexpr int P = directPanels(R);
  const int64_t stride = k * 16;
  int64_t p = 0;
  // Panels shorter than a few pages end before the hardware has caught up with their streams.
  if (R <= 2 && stride * int64_t(sizeof(*w)) <= kShortPanel) {
    for (; p + P <= panels; p += P)
      tile<Weights, R, P, true>(x, k, w + p * stride, stride, true, out + p * 16, ldo);
  }
  for (; p + P <= panels; p += P)
    tile<Weights, R, P>(x, k, w + p * stride, stride, true, out + p * 16, ldo);
  if constexpr (P > 2) {
    for (; p + 2 <= panels; p += 2)
      tile<Weights, R, 2>(x, k, w + p * stride, stride, true, out + p * 16, ldo);
  }
  for (; p < panels; ++p)
    tile<Weights, R, 1>(x, k, w + p * stride, stride, true, out + p * 16, ldo);
}

template <class Weights, int R = kDirectRows>
HWY_INLINE void directRows(const float *const *x, int64_t rows, int64_t k,
                           const typename Weights::T *w, int64_t panels, float *out, int64_t ldo) {
  if constexpr (R > 1) {
    if (rows < R)
      return directRows<Weights, R - 1>(x, rows, k, w, panels, out, ldo);
  }
  direct<Weights, R>(x, k, w, panels, out, ldo);
}

/// The last rows of a block, fewer than kTileRows.
template <class Weights, int P, int R = kTileRows - 1>
HWY_INLINE void tailTile(const float *const *x, int64_t rows, int64_t count,
                         const typename Weights::T *w, int64_t stride, bool first, float *out,
                         int64_t ldo) {
  if constexpr (R > 1) {
    if (rows < R)
      return tailTile<Weights, P, R - 1>(x, rows, count, w, stride, first, out, ldo);
  }
  tile<Weights, R, P>(x, count, w, stride, first, out, ldo);
}

/// All rows over P panels for one block of k.
template <class Weights, int P>
void rowTiles(const float *const *x, int64_t rows, int64_t k0, int64_t count,
              const typename Weights::T *w, int64_t stride, float *out, int64_t ldo) {
  const float *shifted[kTileRows];
  for (int64_t r = 0, height = 0; r < rows; r += height) {
    height = tileHeight(rows - r);
    for (int64_t i = 0; i < height; ++i)
      shifted[i] = x[r + i] + k0;
    if (height == kTileRows)
      tile<Weights, kTileRows, P>(shifted, count, w, stride, k0 == 0, out + r * ldo, ldo);
    else
      tailTile<Weights, P>(shifted, height, count, w, stride, k0 == 0, out + r * ldo, ldo);
  }
}

template <class Weights, int P>
HWY_INLINE void blockedPanels(const float *const *x, int64_t rows, int64_t k,
                              const typename Weights::T *w, float *out, int64_t ldo) {
  const int64_t stride = k * 16;
  const bool widen = !std::is_same_v<Weights, F32Weights> && rows >= kWidenRows;
  HWY_ALIGN float widened[P * kBlockK * 16];
  for (int64_t k0 = 0; k0 < k; k0 += kBlockK) {
    int64_t count = std::min<int64_t>(kBlockK, k - k0);
    if (!widen) {
      rowTiles<Weights, P>(x, rows, k0, count, w + k0 * 16, stride, out, ldo);
      continue;
    }
    for (int p = 0; p < P; ++p)
      for (int64_t i = 0; i < count * 16; i += kLanes)
        hn::Store(Weights::load(w + p * stride + k0 * 16 + i), D(), widened + p * count * 16 + i);
    rowTiles<F32Weights, P>(x, rows, k0, count, widened, count * 16, out, ldo);
  }
}

template <class Weights>
HWY_INLINE void product(const float *const *x, int64_t rows, int64_t k, const void *weight,
                        int64_t panels, float *out, int64_t ldo) {
  const auto *w = static_cast<const typename Weights::T *>(weight);
  if (rows <= 0)
    return;
  if (rows <= kDirectRows)
    return directRows<Weights>(x, rows, k, w, panels, out, ldo);
  int64_t p = 0;
  for (; p + kTilePanels <= panels; p += kTilePanels)
    blockedPanels<Weights, kTilePanels>(x, rows, k, w + p * k * 16, out + p * 16, ldo);
  for (; p < panels; ++p)
    blockedPanels<Weights, 1>(x, rows, k, w + p * k * 16, out + p * 16, ldo);
}

void productF32(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
                int64_t panels, float *out, int64_t ldo) {
  product<F32Weights>(x, rows, shape.k, weight, panels, out, ldo);
}
void productBF16(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
                 int64_t panels, float *out, int64_t ldo) {
  product<BF16Weights>(x, rows, shape.k, weight, panels, out, ldo);
}
void productF16(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
                int64_t panels, float *out, int64_t ldo) {
  product<F16Weights>(x, rows, shape.k, weight, panels, out, ldo);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

PanelProduct *choosePanelProduct(const quant::WeightFormat &format) {
  if (format.isQuantized())
    return chooseQuantProduct(format.element);
  switch (format.element) {
  case quant::ElementType::kBF16:
    return SLUICE_HOST_CHOOSE(productBF16);
  case quant::ElementType::kF16:
    return SLUICE_HOST_CHOOSE(productF16);
  default:
    return SLUICE_HOST_CHOOSE(productF32);
  }
}

} // namespace sluice::host
#endif // HWY_ONCE
