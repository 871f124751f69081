//===- MatmulQuantSimd.cpp - Products with quantised weights ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Blocks of a few dozen steps go through the first-level cache. Staging a block turns its codes
// into a type that one load instruction widens (int8 or float16: from memory such a load costs half
// of what it costs from a register) and its scales into float32; int8 codes already are in that
// form and are used in place. The tile then walks the block's groups: products of a group are
// summed unscaled in registers, and the scale is applied once per group as the sum is added to the
// output, which may therefore stay in memory. With many rows the block is widened to float32 first.
// A group that continues in the next block leaves its sums behind exactly, hence the order of
// additions, and so every bit, is the same for every number of rows and size of block.
//
// e4m3 codes become float16 with two operations on their bits, 2^8 too small: the exponents' biases
// are 7 and 15, and subnormal numbers stay such, which the widening load handles at full speed. A
// single row takes them in place, as float32 with tiny exponents; the scales of a published
// checkpoint make subnormal codes rare, and so what some processors take for them. All factors are
// powers of two, so the sums are the same bit for bit. Four-bit codes become int8, integers by
// losing their zero point, E2M1 through a table of twice their values. The powers of two missing or
// in excess are part of the staged scale.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Matmul.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/MatmulQuantSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include "runtime/device/host/MatmulTile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using quant::ScaleType;

// Panels of a tile over that many rows, and rows of a tile over that many panels: enough chains of
// additions to hide their latency, as far as registers go.
#if HWY_MAX_BYTES == 64
constexpr int panelsOf(int64_t rows) { return rows <= 2 ? 4 : 2; }
constexpr int rowsOf(int panels) { return panels == 4 ? 2 : kTileRows; }
#elif HWY_MAX_BYTES == 32
constexpr int panelsOf(int64_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }
constexpr int rowsOf(int panels) { return panels == 4 ? 1 : panels == 2 ? 3 : kTileRows; }
#else
constexpr int panelsOf(int64_t) { return 1; }
constexpr int rowsOf(int) { return kTileRows; }
#endif

/// Bytes of a staged block when one tile takes all rows: enough to hide the loop around it, few
/// enough that memory is read while the processor computes.
constexpr int64_t kShortBlock = 8 * 1024;
/// Rows from which widening a block to float32 costs less than doing it in every tile.
constexpr int64_t kFloatRows = 48;
/// What the scales of the shortest groups take in a block.
constexpr int64_t kBlockScaleBytes = kBlockK / quant::kMinGroupColumns * 64;

// Codes in a block, 16 of a step after each other; a group of them follows its 16 scales.

/// Activations and scales are multiplied by kFactor as they are used, a power of two.
struct ByteCodes {
  using T = int8_t;
  static constexpr float kFactor = 1;
  static HWY_INLINE V load(const T *p) {
    return hn::ConvertTo(D(),
                         hn::PromoteTo(hn::Rebind<int32_t, D>(), hn::LoadU(hn::Rebind<T, D>(), p)));
  }
};
struct HalfCodes {
  using T = hwy::float16_t;
  static constexpr float kFactor = 1;
  static HWY_INLINE V load(const T *p) {
    return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<T, D>(), p));
  }
};
/// Packed e4m3 codes, 2^120 too small: the bits in their places of a float32, whose exponents are
/// biased by 127 instead of 7. The factor keeps products far from numbers that lose bits.
struct TinyCodes {
  using T = uint8_t;
  static constexpr float kFactor = 0x1p60f;
  static HWY_INLINE V load(const T *p) {
    const hn::Rebind<int32_t, D> d;
    const auto codes = hn::LoadU(hn::Rebind<int8_t, D>(), reinterpret_cast<const int8_t *>(p));
    // The sign arrives in the five highest bits.
    const auto bits = hn::ShiftLeft<20>(hn::PromoteTo(d, codes));
    return hn::BitCast(D(), hn::And(bits, hn::Set(d, int32_t(0x87f00000u))));
  }
};
struct FloatCodes {
  using T = float;
  static constexpr float kFactor = 1;
  static HWY_INLINE V load(const T *p) { return hn::LoadU(D(), p); }
};

template <class Codes> constexpr int64_t stepBytes() {
  return 16 * int64_t(sizeof(typename Codes::T));
}

// Packed codes (runtime/quant/GroupedPanel.h). kUnitSteps are staged at once, from kUnitBytes.

/// Staged codes times factor are what the packed ones stand for.
struct PackedI8 {
  using Staged = ByteCodes;
  static constexpr int64_t kUnitSteps = 1, kUnitBytes = 16, kZeroBytes = 0;
  static constexpr float kFactor = 1;
  static constexpr bool kInPlace = true;
};

struct PackedF8 {
  using Staged = HalfCodes;
  static constexpr int64_t kUnitSteps = 1, kUnitBytes = 16, kZeroBytes = 0;
  static constexpr float kFactor = 256;
  static constexpr bool kInPlace = false;

  /// As many e4m3 codes as D16 has lanes, as float16 that are 2^8 too small.
  template <class D16> static HWY_INLINE hn::Vec<D16> halfBits(const uint8_t *p) {
    const D16 d;
    const auto codes = hn::LoadU(hn::Rebind<int8_t, D16>(), reinterpret_cast<const int8_t *>(p));
    // The sign arrives in the two highest bits, of which the exponent's must be zero.
    return hn::And(hn::ShiftLeft<7>(hn::PromoteTo(d, codes)), hn::Set(d, int16_t(-0x4001)));
  }
  static HWY_INLINE void stage(const uint8_t *p, const uint8_t *, Staged::T *out) {
    using D16 = hn::CappedTag<int16_t, 16>;
    constexpr int lanes = int(D16::kPrivateN);
    for (int i = 0; i < 16; i += lanes)
      hn::StoreU(halfBits<D16>(p + i), D16(), reinterpret_cast<int16_t *>(out) + i);
  }
};

/// The same codes for a single row, which staging would cost more than it saves. Subnormal codes
/// are subnormal float32 here, so the processor must not take those as zero.
struct PackedTinyF8 {
  using Staged = TinyCodes;
  static constexpr int64_t kUnitSteps = 1, kUnitBytes = 16, kZeroBytes = 0;
  static constexpr float kFactor = 1;
  static constexpr bool kInPlace = true;

  static HWY_INLINE bool isExact() {
#if HWY_ARCH_X86
    constexpr unsigned subnormalsAreZero = 1u << 6;
    return (_mm_getcsr() & subnormalsAreZero) == 0;
#else
    return false;
#endif
  }
};

/// Four-bit codes: 32 bytes hold four steps, low nibbles the first two.
template <class Decode>
HWY_INLINE void stageNibbles(const uint8_t *p, const Decode &decode, int8_t *out) {
#if HWY_MAX_BYTES >= 32
  const hn::CappedTag<uint8_t, 32> d;
  const hn::Repartition<uint16_t, decltype(d)> d16;
  const auto codes = hn::LoadU(d, p), mask = hn::Set(d, uint8_t(15));
  const auto high = hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, codes)));
  auto *to = reinterpret_cast<uint8_t *>(out);
  hn::StoreU(decode(d, hn::And(codes, mask)), d, to);
  hn::StoreU(decode(d, hn::And(high, mask)), d, to + 32);
#else
  for (int i = 0; i < 32; ++i) {
    out[i] = decode(p[i] & 15, i % 16);
    out[i + 32] = decode(p[i] >> 4, i % 16);
  }
#endif
}

struct PackedI4 {
  using Staged = ByteCodes;
  static constexpr int64_t kUnitSteps = 4, kUnitBytes = 32, kZeroBytes = 16;
  static constexpr float kFactor = 1;
  static constexpr bool kInPlace = false;

  struct Decode {
    const uint8_t *zeros;
    template <class D8> HWY_INLINE hn::Vec<D8> operator()(D8 d, hn::Vec<D8> codes) const {
      return hn::Sub(codes, hn::LoadDup128(d, zeros));
    }
    HWY_INLINE int8_t operator()(int code, int lane) const { return int8_t(code - zeros[lane]); }
  };
  static HWY_INLINE void stage(const uint8_t *p, const uint8_t *zeros, Staged::T *out) {
    stageNibbles(p, Decode{zeros}, out);
  }
};

struct PackedF4 {
  using Staged = ByteCodes;
  static constexpr int64_t kUnitSteps = 4, kUnitBytes = 32, kZeroBytes = 0;
  static constexpr float kFactor = 0.5f;
  static constexpr bool kInPlace = false;

  HWY_ALIGN static constexpr uint8_t kDoubled[16] = {0, 1,   2,   3,   4,   6,   8,   12,
                                                     0, 255, 254, 253, 252, 250, 248, 244};
  struct Decode {
    template <class D8> HWY_INLINE hn::Vec<D8> operator()(D8 d, hn::Vec<D8> codes) const {
      return hn::TableLookupBytes(hn::LoadDup128(d, kDoubled), codes);
    }
    HWY_INLINE int8_t operator()(int code, int) const { return int8_t(kDoubled[code]); }
  };
  static HWY_INLINE void stage(const uint8_t *p, const uint8_t *, Staged::T *out) {
    stageNibbles(p, Decode(), out);
  }
};

/// The geometry of packed panels. Divisions happen here, once per product.
template <class Packed> struct Panels {
  ScaleType scale;
  int64_t k, cols;         ///< columns, and those of a whole group
  int64_t header;          ///< bytes of scales and zero points
  int64_t first, group;    ///< bytes before the first group, and of a whole group
  int64_t stride, perStep; ///< bytes of a panel, and about so many per step

  explicit Panels(const PanelShape &shape)
      : scale(shape.scale), k(shape.k), cols(shape.groupCols),
        header((scale == ScaleType::kF32 ? 64 : 16) + Packed::kZeroBytes),
        first(scale == ScaleType::kE4M3 ? 64 : 0), group(header + codeBytes(cols)),
        stride(first + k / cols * group + (k % cols ? header + codeBytes(k % cols) : 0)),
        perStep((stride - 1) / k + 1) {}

  static int64_t codeBytes(int64_t steps) {
    return (steps + Packed::kUnitSteps - 1) / Packed::kUnitSteps * Packed::kUnitBytes;
  }
};

/// A step of a panel: the group that holds it, in bytes from the panel's start, and its place in
/// the group.
struct Position {
  int64_t group, offset;
};

/// The steps that a tile walks. When the first (last) group is only the rest (beginning) of one,
/// its sums are taken from (left in) the tile's open sums.
struct Stretch {
  int64_t steps = 0, cols = 0;
  int64_t skip = 0; ///< bytes of codes between the first group's scales and the first step
  bool resumes = false, suspends = false;

  // Packed bytes to fetch into the cache meanwhile: those of the next block, of as many panels.
  const uint8_t *next = nullptr;
  int64_t nextStride = 0, nextStep = 0; ///< bytes from panel to panel, and per step
};

/// Activation k of a row, in all lanes.
template <class Codes> HWY_INLINE V activation(const float *row, int64_t k) {
  const V a = hn::Set(D(), row[k]);
  return Codes::kFactor == 1 ? a : hn::Mul(a, hn::Set(D(), Codes::kFactor));
}

/// sum += x[.][k] * codes of that step.
template <class Codes, int R, int P>
HWY_INLINE void addStep(const float *const (&row)[R], int64_t k, const std::byte *codes,
                        int64_t stride, V (&sum)[R][P * kVecs]) {
  using T = typename Codes::T;
  auto load = [&](int v) HWY_ATTR {
    return Codes::load(reinterpret_cast<const T *>(codes + v / kVecs * stride) +
                       v % kVecs * kLanes);
  };
  // Registers keep whichever are fewer, activations or weights.
  if constexpr (R < P * kVecs) {
    V a[R];
    for (int r = 0; r < R; ++r)
      a[r] = activation<Codes>(row[r], k);
    for (int v = 0; v < P * kVecs; ++v) {
      const V w = load(v);
      for (int r = 0; r < R; ++r)
        sum[r][v] = hn::MulAdd(a[r], w, sum[r][v]);
    }
  } else {
    V w[P * kVecs];
    for (int v = 0; v < P * kVecs; ++v)
      w[v] = load(v);
    for (int r = 0; r < R; ++r) {
      const V a = activation<Codes>(row[r], k);
      for (int v = 0; v < P * kVecs; ++v)
        sum[r][v] = hn::MulAdd(a, w[v], sum[r][v]);
    }
  }
}

/// Adds a stretch of R rows x P panels to `out`. x points at the first step of each row, `block` at
/// the scales of the first panel's first group; the other panels' are `stride` bytes apart. `out`
/// and the sums of an open group at `open` are [R][P * 16] with their strides.
template <class Codes, int R, int P>
HWY_INLINE void tile(const float *const *x, const Stretch &stretch, const std::byte *block,
                     int64_t stride, float *out, int64_t ldo, float *open, int64_t ldOpen) {
  // Tiles that fill the registers are long enough, and unrolled they would spill.
  constexpr int unroll = R * P * kVecs <= 8 ? 4 : 1;
  const D d;
  const float *row[R];
  for (int r = 0; r < R; ++r)
    row[r] = x[r];
  const std::byte *codes = block + stretch.skip;
  for (int64_t k = 0; k < stretch.steps; block = codes) {
    const int64_t end = std::min(k + stretch.cols, stretch.steps);
    codes += 64;
    V sum[R][P * kVecs];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < P * kVecs; ++v)
        sum[r][v] = stretch.resumes ? hn::LoadU(d, open + r * ldOpen + v * kLanes) : hn::Zero(d);
    }
    for (; k + unroll <= end; k += unroll, codes += unroll * stepBytes<Codes>()) {
      for (int p = 0; p < P; ++p)
        hwy::Prefetch(stretch.next + k * stretch.nextStep + p * stretch.nextStride);
      for (int u = 0; u < unroll; ++u)
        addStep<Codes, R, P>(row, k + u, codes + u * stepBytes<Codes>(), stride, sum);
    }
    for (; k < end; ++k, codes += stepBytes<Codes>())
      addStep<Codes, R, P>(row, k, codes, stride, sum);
    if (stretch.suspends) {
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < P * kVecs; ++v)
          hn::StoreU(sum[r][v], d, open + r * ldOpen + v * kLanes);
      return;
    }
    for (int v = 0; v < P * kVecs; ++v) {
      const auto *scales = reinterpret_cast<const float *>(block + v / kVecs * stride);
      V scale = hn::LoadU(d, scales + v % kVecs * kLanes);
      if constexpr (Codes::kFactor != 1)
        scale = hn::Mul(scale, hn::Set(d, Codes::kFactor));
      for (int r = 0; r < R; ++r) {
        float *to = out + r * ldo + v * kLanes;
        hn::StoreU(hn::MulAdd(scale, sum[r][v], hn::LoadU(d, to)), d, to);
      }
    }
  }
}

template <class Codes, int P, int R = rowsOf(P)>
HWY_INLINE void tileOf(int64_t rows, const float *const *x, const Stretch &stretch,
                       const std::byte *block, int64_t stride, float *out, int64_t ldo,
                       float *open) {
  if constexpr (R > 1) {
    if (rows < R)
      return tileOf<Codes, P, R - 1>(rows, x, stretch, block, stride, out, ldo, open);
  }
  tile<Codes, R, P>(x, stretch, block, stride, out, ldo, open, P * 16);
}

/// All rows over P panels of a block whose first step is k0.
template <class Codes, int P>
HWY_NOINLINE void rowTiles(const float *const *x, int64_t rows, int64_t k0, const Stretch &stretch,
                           const std::byte *block, int64_t stride, float *out, int64_t ldo,
                           float *open) {
  const float *shifted[kTileRows];
  for (int64_t r = 0, height = 0; r < rows; r += height) {
    height = tileHeight(rows - r);
    for (int64_t i = 0; i < height; ++i)
      shifted[i] = x[r + i] + k0;
    tileOf<Codes, P>(height, shifted, stretch, block, stride, out + r * ldo, ldo,
                     open + r * P * 16);
  }
}

/// The 16 scales of a group as float32, with the codes' factor.
template <class Packed>
HWY_INLINE void stageScales(ScaleType type, const uint8_t *scales, const uint8_t *rowScales,
                            float *out) {
  const D d;
  constexpr float factor = Packed::kFactor;
  for (int i = 0; i < 16; i += kLanes) {
    V scale;
    if (type == ScaleType::kF32) {
      scale = hn::LoadU(d, reinterpret_cast<const float *>(scales) + i);
      scale = factor == 1 ? scale : hn::Mul(scale, hn::Set(d, factor));
    } else if (type == ScaleType::kE8M0) {
      const hn::Rebind<uint32_t, D> d32;
      const auto exponents = hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, D>(), scales + i));
      // Code 0 is 2^-127, the subnormal float32 with half of the least exponent field.
      const auto bits = hn::Max(hn::ShiftLeft<23>(exponents), hn::Set(d32, 0x00400000u));
      scale = hn::Mul(hn::BitCast(d, bits), hn::Set(d, factor));
    } else {
      const auto bits = PackedF8::halfBits<hn::Rebind<int16_t, D>>(scales + i);
      const V halves = hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
      scale = hn::Mul(hn::Mul(halves, hn::Set(d, PackedF8::kFactor * factor)),
                      hn::LoadU(d, reinterpret_cast<const float *>(rowScales) + i));
    }
    hn::StoreU(scale, d, out + i);
  }
}

/// Stages `steps` steps of a panel.
template <class Packed>
HWY_NOINLINE void stageBlock(const Panels<Packed> &panels, const uint8_t *panel, Position at,
                             int64_t steps, std::byte *out) {
  using T = typename Packed::Staged::T;
  constexpr int64_t unitSteps = Packed::kUnitSteps, unitBytes = Packed::kUnitBytes, unroll = 4;
  while (steps > 0) {
    const int64_t count = std::min(panels.cols - at.offset, steps);
    const uint8_t *group = panel + at.group;
    const uint8_t *zeros = group + panels.header - Packed::kZeroBytes;
    const uint8_t *codes = group + panels.header + Panels<Packed>::codeBytes(at.offset);
    stageScales<Packed>(panels.scale, group, panel, reinterpret_cast<float *>(out));
    auto *to = reinterpret_cast<T *>(out + 64);
    int64_t step = 0;
    for (; step + unroll * unitSteps <= count; step += unroll * unitSteps) {
      for (int64_t u = 0; u < unroll; ++u)
        Packed::stage(codes + u * unitBytes, zeros, to + u * unitSteps * 16);
      codes += unroll * unitBytes;
      to += unroll * unitSteps * 16;
    }
    // The last unit may write past the group's steps, where the next group will be.
    for (; step < count; step += unitSteps, codes += unitBytes, to += unitSteps * 16)
      Packed::stage(codes, zeros, to);
    out += 64 + count * stepBytes<typename Packed::Staged>();
    steps -= count;
    at = {at.group + panels.group, 0};
  }
}

/// A block as FloatCodes.
template <class Codes>
void floatBlock(const Stretch &stretch, const std::byte *block, std::byte *out) {
  using T = typename Codes::T;
  const std::byte *codes = block + stretch.skip;
  for (int64_t k = 0, steps = 0; k < stretch.steps; k += steps, block = codes) {
    steps = std::min(stretch.cols, stretch.steps - k);
    codes += 64;
    std::memcpy(out, block, 64);
    out += 64;
    for (int64_t i = 0; i < steps * 16; i += kLanes)
      hn::StoreU(Codes::load(reinterpret_cast<const T *>(codes) + i), D(),
                 reinterpret_cast<float *>(out) + i);
    codes += steps * stepBytes<Codes>(), out += steps * stepBytes<FloatCodes>();
  }
}

/// All rows over P panels, block by block.
template <class Packed, int P, bool floats>
void blockedPanels(const float *const *x, int64_t rows, const Panels<Packed> &panels,
                   const uint8_t *w, float *out, int64_t ldo) {
  using Codes = typename Packed::Staged;
  // Beside scales and codes there is room for what staging writes past the last group.
  constexpr int64_t blockBytes = kBlockScaleBytes + (kBlockK + 4) * stepBytes<Codes>();
  constexpr int64_t floatBytes = kBlockScaleBytes + kBlockK * stepBytes<FloatCodes>();
  HWY_ALIGN std::byte staged[Packed::kInPlace ? 1 : P * blockBytes];
  HWY_ALIGN std::byte widened[floats ? P * floatBytes : 1];
  HWY_ALIGN float open[(P <= kTilePanels ? kRowBlock : kTileRows) * P * 16];
  const int64_t limit = rows <= kTileRows
                            ? std::min<int64_t>(kBlockK, kShortBlock / (P * stepBytes<Codes>()))
                            : kBlockK;
  const bool wholeGroups = panels.cols <= limit;
  const int64_t groupsPerBlock = wholeGroups ? limit / panels.cols : 0;
  Position at{panels.first, 0};
  for (int64_t k0 = 0; k0 < panels.k;) {
    Stretch stretch;
    stretch.cols = panels.cols;
    stretch.resumes = at.offset > 0;
    Position after{at.group + panels.group, 0};
    if (wholeGroups) {
      stretch.steps = std::min(groupsPerBlock * panels.cols, panels.k - k0);
      after.group = at.group + groupsPerBlock * panels.group;
    } else {
      stretch.steps = std::min({limit, panels.cols - at.offset, panels.k - k0});
      stretch.suspends = at.offset + stretch.steps < panels.cols && k0 + stretch.steps < panels.k;
      if (stretch.suspends)
        after = {at.group, at.offset + stretch.steps};
    }
    stretch.nextStride = panels.stride;
    stretch.nextStep = panels.perStep;
    stretch.next = w + P * panels.stride;
    if (k0 + stretch.steps < panels.k)
      stretch.next = w + after.group + Panels<Packed>::codeBytes(after.offset);
    const std::byte *block = staged;
    int64_t stride = blockBytes;
    if constexpr (Packed::kInPlace) {
      block = reinterpret_cast<const std::byte *>(w) + at.group;
      stride = panels.stride;
      stretch.skip = at.offset * stepBytes<Codes>();
    } else {
      for (int p = 0; p < P; ++p)
        stageBlock(panels, w + p * panels.stride, at, stretch.steps, staged + p * blockBytes);
    }
    if constexpr (floats) {
      for (int p = 0; p < P; ++p)
        floatBlock<Codes>(stretch, block + p * stride, widened + p * floatBytes);
      stretch.skip = 0;
      rowTiles<FloatCodes, P>(x, rows, k0, stretch, widened, floatBytes, out, ldo, open);
    } else {
      rowTiles<Codes, P>(x, rows, k0, stretch, block, stride, out, ldo, open);
    }
    k0 += stretch.steps;
    at = after;
  }
}

/// As many panels as possible in tiles of P, the rest in smaller ones.
template <class Packed, int P, bool floats>
void allPanels(const float *const *x, int64_t rows, const Panels<Packed> &panels, int64_t count,
               const uint8_t *w, float *out, int64_t ldo) {
  for (; count >= P; count -= P, w += P * panels.stride, out += P * 16)
    blockedPanels<Packed, P, floats>(x, rows, panels, w, out, ldo);
  if constexpr (P > 1) {
    if (count > 0)
      allPanels<Packed, P / 2, floats>(x, rows, panels, count, w, out, ldo);
  }
}

template <class Packed>
HWY_INLINE void product(const float *const *x, int64_t rows, const PanelShape &shape,
                        const void *weight, int64_t count, float *out, int64_t ldo) {
  const auto *w = static_cast<const uint8_t *>(weight);
  const Panels<Packed> panels(shape);
  for (int64_t r = 0; r < rows; ++r)
    std::memset(out + r * ldo, 0, size_t(count) * 16 * sizeof(float));
  if constexpr (std::is_same_v<Packed, PackedF8>) {
    if (rows == 1 && PackedTinyF8::isExact())
      return allPanels<PackedTinyF8, panelsOf(1), false>(x, 1, Panels<PackedTinyF8>(shape), count,
                                                         w, out, ldo);
  }
  if (rows >= kFloatRows)
    return allPanels<Packed, kTilePanels, true>(x, rows, panels, count, w, out, ldo);
  switch (panelsOf(rows)) {
#if HWY_MAX_BYTES >= 32
  case 4:
    return allPanels<Packed, 4, false>(x, rows, panels, count, w, out, ldo);
  case 2:
    return allPanels<Packed, 2, false>(x, rows, panels, count, w, out, ldo);
#endif
  default:
    return allPanels<Packed, 1, false>(x, rows, panels, count, w, out, ldo);
  }
}

void productI8(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  product<PackedI8>(x, rows, shape, weight, panels, out, ldo);
}
void productF8(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  product<PackedF8>(x, rows, shape, weight, panels, out, ldo);
}
void productI4(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  product<PackedI4>(x, rows, shape, weight, panels, out, ldo);
}
void productF4(const float *const *x, int64_t rows, const PanelShape &shape, const void *weight,
               int64_t panels, float *out, int64_t ldo) {
  product<PackedF4>(x, rows, shape, weight, panels, out, ldo);
}

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

PanelProduct *chooseQuantProduct(quant::ElementType type) {
  switch (type) {
  case quant::ElementType::kF8E4M3:
    return SLUICE_HOST_CHOOSE(productF8);
  case quant::ElementType::kI8:
    return SLUICE_HOST_CHOOSE(productI8);
  case quant::ElementType::kI4:
    return SLUICE_HOST_CHOOSE(productI4);
  default:
    return SLUICE_HOST_CHOOSE(productF4);
  }
}

} // namespace sluice::host
#endif // HWY_ONCE
