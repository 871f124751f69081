//===- MatmulQuant-inl.h - Tiles and blocking for quantised panels ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A tile walks the groups of its panels (runtime/quant/GroupedPanel.h): codes become float32 in
// registers, a group's products are summed unscaled, and the scale is applied once per group as the
// sum is added to the output, which therefore may stay in memory. The work on the codes runs beside
// the multiply-adds on other ports of the processor, so up to a few tiles of rows convert anew for
// every tile. More rows share one conversion: a block of the panel is widened into the first-level
// cache in the same group layout, with float32 as codes and final scales, and the same tile runs
// over it. A group longer than a block is summed in parts whose state is kept exactly, hence the
// order of additions is the same for every number of rows.
//
// Include inside a file compiled by foreach_target.h, after highway.h. A source file supplies
// `Codes` types:
//   kSteps        steps of k in one load of kLoadBytes
//   kFactor       what the float32 codes must be multiplied with to be what they stand for
//   kByteScales   scales are one byte (by PanelShape::scale), else float32
//   kZeroBytes    bytes of zero points after the scales
//   Group, group  what loads need to know of a group, from its zero points
//   load          codes of kSteps steps to float32
//
//===------------------------------------------------------------------------===//
#if defined(SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_INL_H
#undef SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_INL_H
#else
#define SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_INL_H
#endif

#include "hwy/cache_control.h"

#include "runtime/device/host/MatmulTile-inl.h"

#include <algorithm>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Up to so many rows every tile converts codes for itself.
constexpr int64_t kConvertRows = 2 * kTileRows;

/// e4m3 bits as those of a float16 that is 2^8 times smaller: the exponents' biases are 7 and 15,
/// and subnormal numbers stay such. `codes` are sign-extended.
template <class D16>
HWY_INLINE hn::Vec<hn::Rebind<hwy::float16_t, D16>> halfOfF8(hn::Vec<D16> codes) {
  const D16 d;
  return hn::BitCast(hn::Rebind<hwy::float16_t, D16>(),
                     hn::And(hn::ShiftLeft<7>(codes), hn::Set(d, int16_t(0xbfff - 0x10000))));
}

/// kLanes e4m3 values times 2^-8.
HWY_INLINE V loadF8(const uint8_t *p) {
  const hn::Rebind<int16_t, D> d16;
  const hn::Rebind<int8_t, D> d8;
  const auto codes = hn::LoadU(d8, reinterpret_cast<const int8_t *>(p));
  return hn::PromoteTo(D(), halfOfF8<hn::Rebind<int16_t, D>>(hn::PromoteTo(d16, codes)));
}

/// The scale by which the sum of a group's codes is multiplied, for lanes from `first`.
template <class Codes>
HWY_INLINE V loadScale(quant::ScaleType type, const uint8_t *scales, const uint8_t *rowScales,
                       int first) {
  const D d;
  if constexpr (!Codes::kByteScales) {
    V scale = hn::LoadU(d, reinterpret_cast<const float *>(scales) + first);
    return Codes::kFactor == 1 ? scale : hn::Mul(scale, hn::Set(d, Codes::kFactor));
  } else if (type == quant::ScaleType::kE8M0) {
    const hn::Rebind<uint32_t, D> d32;
    const auto exponents = hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, D>(), scales + first));
    // Code 0 is 2^-127, the subnormal float32 with half of the least exponent field.
    const auto bits = hn::Max(hn::ShiftLeft<23>(exponents), hn::Set(d32, 0x00400000u));
    return hn::Mul(hn::BitCast(d, bits), hn::Set(d, Codes::kFactor));
  } else {
    const V rowScale = hn::LoadU(d, reinterpret_cast<const float *>(rowScales) + first);
    return hn::Mul(hn::Mul(loadF8(scales + first), hn::Set(d, 256 * Codes::kFactor)), rowScale);
  }
}

template <class Codes> constexpr int64_t scaleBytes() { return Codes::kByteScales ? 16 : 64; }

template <class Codes> constexpr int64_t codeBytes(int64_t steps) {
  return (steps + Codes::kSteps - 1) / Codes::kSteps * Codes::kLoadBytes;
}

/// Where the first group of a panel begins.
template <class Codes> int64_t firstGroup(quant::ScaleType type) {
  return Codes::kByteScales && type == quant::ScaleType::kE4M3 ? 64 : 0;
}

/// The steps that a tile walks. When the first (last) group is only the rest (beginning) of one,
/// its sum is taken from (left in) the tile's `open` sums.
struct Stretch {
  int64_t steps = 0, groupCols = 0;
  quant::ScaleType scale = quant::ScaleType::kNone;
  bool resumes = false, suspends = false;
};

/// A widened block: groups of 16 scales and float32 codes.
struct WidenedCodes {
  static constexpr int kSteps = 1;
  static constexpr int64_t kLoadBytes = 64, kZeroBytes = 0;
  static constexpr float kFactor = 1;
  static constexpr bool kByteScales = false;
  struct Group {};
  static HWY_INLINE Group group(const uint8_t *) { return {}; }
  static HWY_INLINE void load(const Group &, const uint8_t *p, V (&w)[kSteps][kVecs]) {
    for (int v = 0; v < kVecs; ++v)
      w[0][v] = hn::LoadU(D(), reinterpret_cast<const float *>(p) + v * kLanes);
  }
};

/// sum += x[.][k + i] * codes of step i, for the first `steps` steps of one load.
template <class Codes, int R, int P, int steps = Codes::kSteps>
HWY_INLINE void accumulate(const typename Codes::Group (&group)[P], const uint8_t *codes,
                           int64_t stride, const float *const (&row)[R], int64_t k,
                           V (&sum)[R][P * kVecs]) {
  for (int p = 0; p < P; ++p) {
    V w[Codes::kSteps][kVecs];
    Codes::load(group[p], codes + p * stride, w);
    for (int i = 0; i < steps; ++i) {
      for (int r = 0; r < R; ++r) {
        const V a = hn::Set(D(), row[r][k + i]);
        for (int v = 0; v < kVecs; ++v)
          sum[r][p * kVecs + v] = hn::MulAdd(a, w[i][v], sum[r][p * kVecs + v]);
      }
    }
  }
}

/// Adds a stretch of R rows x P panels to `out`. x points at the first step of each row, `w` at the
/// first panel (or widened block), whose successors are `stride` bytes apart. ahead: also fetch the
/// same bytes of the next P panels into the cache.
template <class Codes, int R, int P, bool ahead = false>
HWY_INLINE void groupTile(const float *const *x, const Stretch &stretch, const uint8_t *w,
                          int64_t stride, float *out, int64_t ldo, float *open = nullptr,
                          int64_t ldOpen = 0) {
  const D d;
  constexpr int unroll = R <= 2 ? 4 : 1;
  constexpr int64_t loadSteps = Codes::kSteps, loadBytes = Codes::kLoadBytes;
  constexpr bool parts = std::is_same_v<Codes, WidenedCodes>;
  const float *row[R];
  for (int r = 0; r < R; ++r)
    row[r] = x[r];
  const uint8_t *at = w + firstGroup<Codes>(stretch.scale);
  for (int64_t k = 0; k < stretch.steps;) {
    const int64_t end = std::min(k + stretch.groupCols, stretch.steps);
    const uint8_t *scales = at;
    at += scaleBytes<Codes>();
    typename Codes::Group group[P];
    for (int p = 0; p < P; ++p)
      group[p] = Codes::group(at + p * stride);
    at += Codes::kZeroBytes;
    V sum[R][P * kVecs];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < P * kVecs; ++v)
        sum[r][v] =
            parts && stretch.resumes ? hn::LoadU(d, open + r * ldOpen + v * kLanes) : hn::Zero(d);
    }

    for (; k + unroll * loadSteps <= end; k += unroll * loadSteps, at += unroll * loadBytes) {
      for (int p = 0; ahead && p < P; ++p)
        hwy::Prefetch(at + (P + p) * stride);
      for (int u = 0; u < unroll; ++u)
        accumulate<Codes, R, P>(group, at + u * loadBytes, stride, row, k + u * loadSteps, sum);
    }
    for (; unroll > 1 && k + loadSteps <= end; k += loadSteps, at += loadBytes)
      accumulate<Codes, R, P>(group, at, stride, row, k, sum);
    if constexpr (loadSteps > 1) {
      if (k < end) {
        accumulate<Codes, R, P, 1>(group, at, stride, row, k, sum);
        k = end, at += loadBytes;
      }
    }

    if (parts && stretch.suspends) {
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < P * kVecs; ++v)
          hn::StoreU(sum[r][v], d, open + r * ldOpen + v * kLanes);
      }
      return;
    }
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVecs; ++v) {
        const V scale =
            loadScale<Codes>(stretch.scale, scales + p * stride, w + p * stride, v * kLanes);
        for (int r = 0; r < R; ++r) {
          float *to = out + r * ldo + (p * kVecs + v) * kLanes;
          hn::StoreU(hn::MulAdd(scale, sum[r][p * kVecs + v], hn::LoadU(d, to)), d, to);
        }
      }
    }
  }
}

/// All panels for exactly R rows, straight from the codes.
template <class Codes, int R>
void convertTile(const float *const *x, const Stretch &stretch, const uint8_t *w, int64_t stride,
                 int64_t panels, float *out, int64_t ldo) {
  constexpr int P = directPanels(R);
  int64_t p = 0;
  if (R <= 2 && stride <= kShortPanel) {
    for (; p + P <= panels; p += P)
      groupTile<Codes, R, P, R <= 2>(x, stretch, w + p * stride, stride, out + p * 16, ldo);
  }
  for (; p + P <= panels; p += P)
    groupTile<Codes, R, P>(x, stretch, w + p * stride, stride, out + p * 16, ldo);
  for (; P > 1 && p < panels; ++p)
    groupTile<Codes, R, 1>(x, stretch, w + p * stride, stride, out + p * 16, ldo);
}

template <class Codes, int R = kTileRows>
void convertRows(const float *const *x, int64_t rows, const Stretch &stretch, const uint8_t *w,
                 int64_t stride, int64_t panels, float *out, int64_t ldo) {
  if constexpr (R > 1) {
    if (rows < R)
      return convertRows<Codes, R - 1>(x, rows, stretch, w, stride, panels, out, ldo);
  }
  convertTile<Codes, R>(x, stretch, w, stride, panels, out, ldo);
}

/// Sums of rows over P widened panels, [kRowBlock][P * 16].
template <int P> struct OpenSums {
  static constexpr int64_t kStride = P * 16;
  HWY_ALIGN float sums[kRowBlock * kStride];
};

template <int P, int R = kTileRows>
void widenedTile(const float *const *x, int64_t rows, const Stretch &stretch, const uint8_t *w,
                 int64_t stride, float *out, int64_t ldo, float *open) {
  if constexpr (R > 1) {
    if (rows < R)
      return widenedTile<P, R - 1>(x, rows, stretch, w, stride, out, ldo, open);
  }
  groupTile<WidenedCodes, R, P>(x, stretch, w, stride, out, ldo, open, OpenSums<P>::kStride);
}

/// All rows over P panels of a widened block whose first step is k0.
template <int P>
void widenedRows(const float *const *x, int64_t rows, int64_t k0, const Stretch &stretch,
                 const uint8_t *w, int64_t stride, float *out, int64_t ldo, OpenSums<P> &open) {
  const float *shifted[kTileRows];
  for (int64_t r = 0, height = 0; r < rows; r += height) {
    height = tileHeight(rows - r);
    for (int64_t i = 0; i < height; ++i)
      shifted[i] = x[r + i] + k0;
    widenedTile<P>(shifted, height, stretch, w, stride, out + r * ldo, ldo,
                   open.sums + r * open.kStride);
  }
}

/// Writes scales and `steps` steps of a group, from step `offset` on, as a group of WidenedCodes.
template <class Codes>
uint8_t *widenGroup(quant::ScaleType type, const uint8_t *group, const uint8_t *rowScales,
                    int64_t offset, int64_t steps, uint8_t *to) {
  const D d;
  for (int v = 0; v < kVecs; ++v)
    hn::StoreU(loadScale<Codes>(type, group, rowScales, v * kLanes), d,
               reinterpret_cast<float *>(to) + v * kLanes);
  const uint8_t *zeros = group + scaleBytes<Codes>();
  const auto state = Codes::group(zeros);
  const uint8_t *codes = zeros + Codes::kZeroBytes + codeBytes<Codes>(offset);
  float *out = reinterpret_cast<float *>(to + scaleBytes<WidenedCodes>());
  for (int64_t step = 0; step < steps; step += Codes::kSteps, codes += Codes::kLoadBytes) {
    V w[Codes::kSteps][kVecs];
    Codes::load(state, codes, w);
    for (int64_t i = 0; i < Codes::kSteps && step + i < steps; ++i, out += 16) {
      for (int v = 0; v < kVecs; ++v)
        hn::StoreU(w[i][v], d, out + v * kLanes);
    }
  }
  return reinterpret_cast<uint8_t *>(out);
}

/// All rows over P panels, through widened blocks.
template <class Codes, int P>
void widenedPanels(const float *const *x, int64_t rows, const PanelShape &shape, const uint8_t *w,
                   int64_t stride, float *out, int64_t ldo) {
  // Scales of the shortest groups, and room for the odd step of a group of nibbles.
  constexpr int64_t blockBytes = (kBlockK + kBlockK / quant::kMinGroupColumns) * 64;
  HWY_ALIGN uint8_t widened[P * blockBytes];
  OpenSums<P> open;
  const int64_t cols = shape.groupCols;
  const int64_t groupBytes = scaleBytes<Codes>() + Codes::kZeroBytes + codeBytes<Codes>(cols);
  const int64_t blockSteps = cols <= kBlockK ? kBlockK / cols * cols : kBlockK;
  for (int64_t k0 = 0, count = 0; k0 < shape.k; k0 += count) {
    const int64_t offset = k0 % cols, groupEnd = std::min(k0 - offset + cols, shape.k);
    Stretch stretch;
    stretch.groupCols = cols;
    stretch.resumes = offset > 0;
    count = std::min(blockSteps, (cols <= kBlockK ? shape.k : groupEnd) - k0);
    stretch.steps = count;
    stretch.suspends = cols > kBlockK && k0 + count < groupEnd;
    for (int p = 0; p < P; ++p) {
      const uint8_t *panel = w + p * stride;
      uint8_t *to = widened + p * blockBytes;
      for (int64_t k = k0; k < k0 + count; k += cols)
        to = widenGroup<Codes>(shape.scale,
                               panel + firstGroup<Codes>(shape.scale) + k / cols * groupBytes,
                               panel, offset, std::min(cols, k0 + count - k), to);
    }
    widenedRows<P>(x, rows, k0, stretch, widened, blockBytes, out, ldo, open);
  }
}

template <class Codes>
HWY_INLINE void quantProduct(const float *const *x, int64_t rows, const PanelShape &shape,
                             const void *weight, int64_t panels, float *out, int64_t ldo) {
  const auto *w = static_cast<const uint8_t *>(weight);
  const int64_t full = shape.k / shape.groupCols, rest = shape.k % shape.groupCols;
  const int64_t header = scaleBytes<Codes>() + Codes::kZeroBytes;
  const int64_t stride = firstGroup<Codes>(shape.scale) +
                         full * (header + codeBytes<Codes>(shape.groupCols)) +
                         (rest ? header + codeBytes<Codes>(rest) : 0);
  for (int64_t r = 0; r < rows; ++r)
    std::memset(out + r * ldo, 0, size_t(panels) * 16 * sizeof(float));
  if (rows <= kConvertRows) {
    Stretch stretch;
    stretch.steps = shape.k, stretch.groupCols = shape.groupCols, stretch.scale = shape.scale;
    for (int64_t r = 0, height = 0; r < rows; r += height) {
      height = tileHeight(rows - r);
      convertRows<Codes>(x + r, height, stretch, w, stride, panels, out + r * ldo, ldo);
    }
    return;
  }
  int64_t p = 0;
  for (; p + kTilePanels <= panels; p += kTilePanels)
    widenedPanels<Codes, kTilePanels>(x, rows, shape, w + p * stride, stride, out + p * 16, ldo);
  for (; kTilePanels > 1 && p < panels; ++p)
    widenedPanels<Codes, 1>(x, rows, shape, w + p * stride, stride, out + p * 16, ldo);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#endif // SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_INL_H
