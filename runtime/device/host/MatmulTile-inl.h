//===- MatmulTile-inl.h - Register tiles of panel products ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The vector type and the tile shapes that the products of plain and of quantised weights share.
// Include inside a file compiled by foreach_target.h, after highway.h.
//
//===------------------------------------------------------------------------===//
#if defined(SLUICE_RUNTIME_DEVICE_HOST_MATMULTILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_RUNTIME_DEVICE_HOST_MATMULTILE_INL_H
#undef SLUICE_RUNTIME_DEVICE_HOST_MATMULTILE_INL_H
#else
#define SLUICE_RUNTIME_DEVICE_HOST_MATMULTILE_INL_H
#endif

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One register never holds more than a panel's 16 columns.
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

constexpr int kLanes = int(D::kPrivateN);
/// Registers per panel.
constexpr int kVecs = 16 / kLanes;

/// Bytes of a panel below which its stream ends before the hardware prefetcher has caught up.
constexpr int64_t kShortPanel = 32 * 1024;

// Tile shapes per target: rows of a full tile over a widened block, the largest batch that is
// computed straight from the stored format, and the k of a widened block (kTilePanels * kBlockK *
// 64 bytes).
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr int kTileRows = 8, kTilePanels = 2, kDirectRows = 8, kBlockK = 256;
constexpr int directPanels(int rows) { return rows <= 2 ? 4 : 2; }
#elif HWY_TARGET == HWY_AVX2
constexpr int kTileRows = 6, kTilePanels = 1, kDirectRows = 6, kBlockK = 256;
constexpr int directPanels(int rows) { return rows <= 2 ? 2 : 1; }
#else
constexpr int kTileRows = 4, kTilePanels = 1, kDirectRows = 4, kBlockK = 256;
constexpr int directPanels(int rows) { return 1; }
#endif

/// Rows of the next tile when `left` remain: the last rows are halved rather than leave a sliver
/// with too few chains of additions.
inline int64_t tileHeight(int64_t left) {
  return left >= 2 * kTileRows || left == kTileRows ? kTileRows
         : left > kTileRows                         ? (left + 1) / 2
                                                    : left;
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#endif // SLUICE_RUNTIME_DEVICE_HOST_MATMULTILE_INL_H
