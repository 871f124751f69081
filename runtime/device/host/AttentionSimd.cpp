//===- AttentionSimd.cpp - Attention parts with SIMD ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Prefill: a block of keys is transposed into the panels that the matrix product streams, so that
// scores of up to 96 query rows are one product; a block of values already has the order of panels
// and is only copied (widened, gathered from pages). Both costs are shared by all rows.
// Decode: few rows per kv head cannot pay for a transposition; scores are dot products straight
// from the cache, four keys at a time, and each key and value is read once.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/device/host/Attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/AttentionSimd.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormExp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kPanel = quant::kPanelRows;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
/// Keys per online-softmax step of a decode part.
constexpr int64_t kDecodeKeys = 64;
/// Query heads of a decode part that are computed together; more are done in turns.
constexpr int64_t kDecodeHeads = 16;

/// Finds the rows of one kv head in the paged cache.
template <class Elements> class Pages {
public:
  using T = typename Elements::T;
  Pages(const AttentionShape &shape, const AttentionBuffers &buffers, int64_t token, int64_t kvHead)
      : table(buffers.pageTable + buffers.tokenSeq[token] * shape.pagesPerSeq),
        keys(static_cast<const T *>(buffers.keys)), values(static_cast<const T *>(buffers.values)),
        pageSize(shape.pageSize), kvHeads(shape.kvHeads), kvHead(kvHead), keyDim(shape.headDim),
        valueStride(shape.valueStride) {}

  const T *key(int64_t position) const { return keys + row(position) * keyDim; }
  const T *value(int64_t position) const { return values + row(position) * valueStride; }
  int64_t stride() const { return valueStride; }
  /// Rows from `position` on that follow each other in memory.
  int64_t run(int64_t position) const { return pageSize - position % pageSize; }

private:
  int64_t row(int64_t position) const {
    return (table[position / pageSize] * kvHeads + kvHead) * pageSize + position % pageSize;
  }
  const int32_t *table;
  const T *keys, *values;
  int64_t pageSize, kvHeads, kvHead, keyDim, valueStride;
};

/// scores = softcap(scale * scores) for one row; `count` is a multiple of 16.
HWY_INLINE void scaleScores(float *scores, int64_t count, float scale, float softcap) {
  const FloatTag d;
  if (softcap > 0) {
    const FloatVec inner = hn::Set(d, scale / softcap), outer = hn::Set(d, softcap);
    for (int64_t i = 0; i < count; i += kFloatLanes) {
      const FloatVec capped = hn::Tanh(d, hn::Mul(hn::LoadU(d, scores + i), inner));
      hn::StoreU(hn::Mul(capped, outer), d, scores + i);
    }
    return;
  }
  const FloatVec factor = hn::Set(d, scale);
  for (int64_t i = 0; i < count; i += kFloatLanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, scores + i), factor), d, scores + i);
}

/// State of one row's softmax over the keys seen so far.
struct RowState {
  float greatest = kMinusInfinity;
  float sum = 0;
};

/// Replaces scores[0, count) by exp(score - greatest) and updates the row. `count` must be a
/// multiple of 16; masked scores are -infinity, but not all of them. Returns the factor that
/// earlier results must be multiplied with.
HWY_INLINE float onlineSoftmax(float *scores, int64_t count, RowState &row) {
  const FloatTag d;
  FloatVec vMax = hn::LoadU(d, scores);
  for (int64_t i = kFloatLanes; i < count; i += kFloatLanes)
    vMax = hn::Max(vMax, hn::LoadU(d, scores + i));
  const float greatest = std::max(row.greatest, hn::GetLane(hn::MaxOfLanes(d, vMax)));
  const FloatVec vGreatest = hn::Set(d, greatest);
  FloatVec sum = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kFloatLanes) {
    const FloatVec weight = expOf(hn::Sub(hn::LoadU(d, scores + i), vGreatest));
    hn::StoreU(weight, d, scores + i);
    sum = hn::Add(sum, weight);
  }
  const float factor = row.greatest == greatest ? 1.0f : std::exp(row.greatest - greatest);
  row.sum = row.sum * factor + hn::GetLane(hn::SumOfLanes(d, sum));
  row.greatest = greatest;
  return factor;
}

/// out = accumulated / sum, the sink being one more term of the sum.
HWY_INLINE void finishRow(const RowState &row, const float *sink, const float *accumulated,
                          int64_t width, float *out) {
  float factor = 1.0f, sum = row.sum;
  if (sink) {
    const float greatest = std::max(row.greatest, *sink);
    factor = std::exp(row.greatest - greatest);
    sum = sum * factor + std::exp(*sink - greatest);
  }
  factor = sum > 0 ? factor / sum : 0.0f;
  for (int64_t i = 0; i < width; ++i)
    out[i] = accumulated[i] * factor;
}

HWY_INLINE const float *sinkOf(const AttentionBuffers &buffers, int64_t head) {
  return buffers.sinks ? buffers.sinks + head : nullptr;
}

//===------------------------------------------------------------------------===//
// Prefill
//===------------------------------------------------------------------------===//

#if HWY_TARGET != HWY_SCALAR

using Quad = hn::FixedTag<float, 4>;

/// Four elements as float32.
template <class Elements> HWY_INLINE hn::Vec<Quad> loadQuad(const typename Elements::T *p) {
  const Quad d;
  if constexpr (std::is_same_v<Elements, F32Elements>) {
    return hn::LoadU(d, p);
  } else {
    [[maybe_unused]] const hn::Rebind<uint16_t, Quad> d16;
    if constexpr (std::is_same_v<Elements, BF16Elements>) {
      const hn::RebindToUnsigned<Quad> d32;
      return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
    } else {
#if SLUICE_HAVE_F16C
      const hn::Rebind<hwy::float16_t, Quad> half;
      return hn::PromoteTo(d, hn::BitCast(half, hn::LoadU(d16, p)));
#else
      HWY_ALIGN float lanes[4];
      for (int i = 0; i < 4; ++i)
        lanes[i] = Elements::widen(p[i]);
      return hn::Load(d, lanes);
#endif
    }
  }
}

#endif

/// Transposes 16 keys into a panel [dim][16].
template <class Elements>
HWY_INLINE void packKeyPanel(const typename Elements::T *const *keys, int64_t dim, float *panel) {
  for (int64_t column = 0; column < kPanel; column += 4) {
    const auto *k0 = keys[column], *k1 = keys[column + 1], *k2 = keys[column + 2],
               *k3 = keys[column + 3];
    float *out = panel + column;
    int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    const Quad d;
    const hn::Repartition<double, Quad> pairs;
    for (; i + 4 <= dim; i += 4, out += 4 * kPanel) {
      const auto a = loadQuad<Elements>(k0 + i), b = loadQuad<Elements>(k1 + i);
      const auto c = loadQuad<Elements>(k2 + i), e = loadQuad<Elements>(k3 + i);
      const auto abLow = hn::BitCast(pairs, hn::InterleaveLower(d, a, b)); // a0 b0 a1 b1
      const auto ceLow = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
      const auto abHigh = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
      const auto ceHigh = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, abLow, ceLow)), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, abLow, ceLow)), d, out + kPanel);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, abHigh, ceHigh)), d, out + 2 * kPanel);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, abHigh, ceHigh)), d, out + 3 * kPanel);
    }
#endif
    for (; i < dim; ++i, out += kPanel) {
      out[0] = Elements::widen(k0[i]), out[1] = Elements::widen(k1[i]);
      out[2] = Elements::widen(k2[i]), out[3] = Elements::widen(k3[i]);
    }
  }
}

/// Panels of the keys [begin, begin + count); the last panel repeats its last key (the scores are
/// masked).
template <class Elements>
HWY_INLINE void packKeys(const Pages<Elements> &pages, int64_t dim, int64_t begin, int64_t count,
                         float *panels) {
  for (int64_t first = 0; first < count; first += kPanel, panels += dim * kPanel) {
    const typename Elements::T *keys[kPanel];
    for (int64_t i = 0; i < kPanel; ++i)
      keys[i] = pages.key(begin + std::min(first + i, count - 1));
    packKeyPanel<Elements>(keys, dim, panels);
  }
}

/// Panels [count][16] of the values [begin, begin + count).
template <class Elements>
HWY_INLINE void packValues(const Pages<Elements> &pages, int64_t dim, int64_t begin, int64_t count,
                           float *panels) {
  for (int64_t i = 0; i < count; ++i) {
    const typename Elements::T *value = pages.value(begin + i);
    float *out = panels + i * kPanel;
    int64_t column = 0;
    for (; column + kPanel <= dim; column += kPanel, out += count * kPanel) {
      for (int64_t lane = 0; lane < kPanel; lane += kFloatLanes)
        hn::StoreU(Elements::load(value + column + lane), FloatTag(), out + lane);
    }
    for (int64_t lane = 0; column < dim && lane < kPanel; ++lane)
      out[lane] = column + lane < dim ? Elements::widen(value[column + lane]) : 0.0f;
  }
}

/// accumulated = accumulated * factor + added, `width` a multiple of 16.
HWY_INLINE void rescaleAdd(float *accumulated, float factor, const float *added, int64_t width) {
  const FloatTag d;
  const FloatVec vFactor = hn::Set(d, factor);
  for (int64_t i = 0; i < width; i += kFloatLanes)
    hn::StoreU(hn::MulAdd(hn::LoadU(d, accumulated + i), vFactor, hn::LoadU(d, added + i)), d,
               accumulated + i);
}

/// Keys per block: panels of keys and of values must fit their blocks, scores of all rows too.
HWY_INLINE int64_t blockKeys(const AttentionShape &shape) {
  const int64_t width = std::max(shape.headDim, shape.valuePanels() * kPanel);
  return std::clamp<int64_t>(kAttentionBlockValues / width / kPanel * kPanel, kPanel,
                             kPanelBlock * kPanel);
}

template <class Elements>
HWY_INLINE void prefill(const AttentionShape &shape, const AttentionBuffers &buffers,
                        const AttentionRows &rows) {
  HWY_ALIGN float keyPanels[kAttentionBlockValues];
  HWY_ALIGN float valuePanels[kAttentionBlockValues];
  HWY_ALIGN float accumulated[kAttentionBlockValues];
  HWY_ALIGN float scores[kRowBlock * kStripWidth];
  HWY_ALIGN float strip[kRowBlock * kStripWidth];
  const float *queryRows[kRowBlock], *scoreRows[kRowBlock];
  RowState states[kRowBlock];
  float factors[kRowBlock];

  const int64_t rowCount = rows.tokens * rows.heads, valuePanelCount = shape.valuePanels();
  const int64_t width = valuePanelCount * kPanel;
  const Pages<Elements> pages(shape, buffers, rows.token, rows.kvHead);
  int64_t firstKey = std::numeric_limits<int64_t>::max(), lastKey = -1;
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const int64_t token = rows.token + t, position = buffers.positions[token];
    firstKey = std::min(firstKey, shape.firstKey(position));
    lastKey = std::max(lastKey, position);
    for (int64_t h = 0; h < rows.heads; ++h) {
      const int64_t row = t * rows.heads + h;
      queryRows[row] = buffers.q + (token * shape.qHeads + rows.firstHead + h) * shape.headDim;
      scoreRows[row] = scores + row * kStripWidth;
    }
  }
  std::fill_n(accumulated, rowCount * width, 0.0f);

  // Blocks end at multiples of their size, whatever the queries are. Keys before firstKey are not
  // touched: their pages may serve another sequence by now.
  const int64_t step = blockKeys(shape);
  for (int64_t begin = firstKey, end; begin <= lastKey; begin = end) {
    end = std::min(lastKey + 1, (begin / step + 1) * step);
    const int64_t count = end - begin;
    const int64_t panels = (count + kPanel - 1) / kPanel, columns = panels * kPanel;
    packKeys(pages, shape.headDim, begin, count, keyPanels);
    shape.product(queryRows, rowCount, shape.headDim, keyPanels, panels, scores, kStripWidth);

    for (int64_t t = 0; t < rows.tokens; ++t) {
      const int64_t position = buffers.positions[rows.token + t];
      const int64_t seenBegin = std::clamp<int64_t>(shape.firstKey(position) - begin, 0, count);
      const int64_t seenEnd = std::clamp<int64_t>(position + 1 - begin, 0, count);
      for (int64_t row = t * rows.heads; row < (t + 1) * rows.heads; ++row) {
        float *rowScores = scores + row * kStripWidth;
        if (seenBegin >= seenEnd) {
          std::fill_n(rowScores, columns, 0.0f);
          factors[row] = 1.0f;
          continue;
        }
        scaleScores(rowScores, columns, shape.scale, shape.softcap);
        std::fill(rowScores, rowScores + seenBegin, kMinusInfinity);
        std::fill(rowScores + seenEnd, rowScores + columns, kMinusInfinity);
        factors[row] = onlineSoftmax(rowScores, columns, states[row]);
      }
    }

    packValues(pages, shape.valueDim, begin, count, valuePanels);
    for (int64_t panel = 0; panel < valuePanelCount; panel += kPanelBlock) {
      const int64_t part = std::min(kPanelBlock, valuePanelCount - panel);
      shape.product(scoreRows, rowCount, count, valuePanels + panel * count * kPanel, part, strip,
                    kStripWidth);
      for (int64_t row = 0; row < rowCount; ++row)
        rescaleAdd(accumulated + row * width + panel * kPanel, factors[row],
                   strip + row * kStripWidth, part * kPanel);
    }
  }

  for (int64_t row = 0; row < rowCount; ++row) {
    const int64_t token = rows.token + row / rows.heads, head = rows.firstHead + row % rows.heads;
    finishRow(states[row], sinkOf(buffers, head), accumulated + row * width, shape.valueDim,
              buffers.out + (token * shape.qHeads + head) * shape.valueDim);
  }
}

//===------------------------------------------------------------------------===//
// Decode
//===------------------------------------------------------------------------===//

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE void storeSums(const FloatVec *sums, float *out) {
  for (int k = 0; k < 4; ++k)
    out[k] = hn::GetLane(sums[k]);
}

#else

/// Adds the blocks of 128 bits of a vector.
template <class V> HWY_INLINE auto addBlocks(V v) {
  using D = hn::DFromV<V>;
  if constexpr (D::kPrivateN <= 4)
    return v;
  else
    return addBlocks(hn::Add(hn::LowerHalf(v), hn::UpperHalf(hn::Half<D>(), v)));
}

/// out[k] = sum of the lanes of sums[k] for four vectors.
HWY_INLINE void storeSums(const FloatVec *sums, float *out) {
  const FloatTag d;
  const hn::Repartition<double, FloatTag> pairs;
  // Within each block: a0+a2 b0+b2 a1+a3 b1+b3, then one lane per vector.
  const auto ab = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, sums[0], sums[1]),
                                             hn::InterleaveUpper(d, sums[0], sums[1])));
  const auto ce = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, sums[2], sums[3]),
                                             hn::InterleaveUpper(d, sums[2], sums[3])));
  const FloatVec low = hn::BitCast(d, hn::InterleaveLower(pairs, ab, ce));
  const FloatVec high = hn::BitCast(d, hn::InterleaveUpper(pairs, ab, ce));
  hn::StoreU(addBlocks(hn::Add(low, high)), hn::FixedTag<float, 4>(), out);
}

#endif

/// scores[r][0..4) = q[r] · keys[0..4) for R rows of q, `scoreStride` apart.
template <class Elements, int R>
HWY_INLINE void dotFour(const float *q, int64_t dim, const typename Elements::T *const *keys,
                        float *scores, int64_t scoreStride) {
  const FloatTag d;
  FloatVec sum[R][4];
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 4; ++k)
      sum[r][k] = hn::Zero(d);
  int64_t i = 0;
  for (; i + kFloatLanes <= dim; i += kFloatLanes) {
    FloatVec x[R];
    for (int r = 0; r < R; ++r)
      x[r] = hn::LoadU(d, q + r * dim + i);
    for (int k = 0; k < 4; ++k) {
      const FloatVec key = Elements::load(keys[k] + i);
      for (int r = 0; r < R; ++r)
        sum[r][k] = hn::MulAdd(x[r], key, sum[r][k]);
    }
  }
  for (int r = 0; r < R; ++r) {
    float *out = scores + r * scoreStride;
    storeSums(sum[r], out);
    for (int64_t j = i; j < dim; ++j)
      for (int k = 0; k < 4; ++k)
        out[k] += q[r * dim + j] * Elements::widen(keys[k][j]);
  }
}

/// scores[row][0, count) = q[row] · keys [begin, begin + count); writes up to the next multiple of
/// four.
template <class Elements>
HWY_INLINE void decodeScores(const Pages<Elements> &pages, const float *q, int64_t rows,
                             int64_t dim, int64_t begin, int64_t count, float *scores) {
  for (int64_t first = 0; first < count; first += 4) {
    const typename Elements::T *keys[4];
    for (int64_t i = 0; i < 4; ++i)
      keys[i] = pages.key(begin + std::min(first + i, count - 1));
    int64_t row = 0;
    for (; row + 2 <= rows; row += 2)
      dotFour<Elements, 2>(q + row * dim, dim, keys, scores + row * kDecodeKeys + first,
                           kDecodeKeys);
    if (row < rows)
      dotFour<Elements, 1>(q + row * dim, dim, keys, scores + row * kDecodeKeys + first,
                           kDecodeKeys);
  }
}

/// accumulated[r] += Σ weights[r][k] * values[k] over `count` values, `stride` elements apart, for
/// R rows.
template <class Elements, int R>
HWY_INLINE void addValues(const typename Elements::T *values, int64_t stride, int64_t count,
                          int64_t dim, const float *weights, float *accumulated) {
  const FloatTag d;
  constexpr int kVectors = 2;
  int64_t column = 0;
  for (; column + kVectors * kFloatLanes <= dim; column += kVectors * kFloatLanes) {
    FloatVec sum[R][kVectors];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = hn::LoadU(d, accumulated + r * dim + column + v * kFloatLanes);
    const typename Elements::T *value = values + column;
    for (int64_t k = 0; k < count; ++k, value += stride) {
      FloatVec x[kVectors];
      for (int v = 0; v < kVectors; ++v)
        x[v] = Elements::load(value + v * kFloatLanes);
      for (int r = 0; r < R; ++r) {
        const FloatVec weight = hn::Set(d, weights[r * kDecodeKeys + k]);
        for (int v = 0; v < kVectors; ++v)
          sum[r][v] = hn::MulAdd(weight, x[v], sum[r][v]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v)
        hn::StoreU(sum[r][v], d, accumulated + r * dim + column + v * kFloatLanes);
  }
  for (; column + kFloatLanes <= dim; column += kFloatLanes) {
    for (int r = 0; r < R; ++r) {
      FloatVec sum = hn::LoadU(d, accumulated + r * dim + column);
      for (int64_t k = 0; k < count; ++k)
        sum = hn::MulAdd(hn::Set(d, weights[r * kDecodeKeys + k]),
                         Elements::load(values + k * stride + column), sum);
      hn::StoreU(sum, d, accumulated + r * dim + column);
    }
  }
  for (; column < dim; ++column) {
    for (int r = 0; r < R; ++r) {
      float sum = accumulated[r * dim + column];
      for (int64_t k = 0; k < count; ++k)
        sum += weights[r * kDecodeKeys + k] * Elements::widen(values[k * stride + column]);
      accumulated[r * dim + column] = sum;
    }
  }
}

template <class Elements>
HWY_INLINE void decodeValues(const Pages<Elements> &pages, int64_t begin, int64_t count,
                             int64_t dim, int64_t rows, const float *weights, float *accumulated) {
  for (int64_t done = 0; done < count;) {
    const int64_t part = std::min(count - done, pages.run(begin + done));
    const auto *values = pages.value(begin + done);
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4)
      addValues<Elements, 4>(values, pages.stride(), part, dim, weights + row * kDecodeKeys + done,
                             accumulated + row * dim);
    for (; row + 2 <= rows; row += 2)
      addValues<Elements, 2>(values, pages.stride(), part, dim, weights + row * kDecodeKeys + done,
                             accumulated + row * dim);
    if (row < rows)
      addValues<Elements, 1>(values, pages.stride(), part, dim, weights + row * kDecodeKeys + done,
                             accumulated + row * dim);
    done += part;
  }
}

template <class Elements>
HWY_INLINE void decodeHeads(const AttentionShape &shape, const AttentionBuffers &buffers,
                            const AttentionRows &rows, int64_t keyBegin, int64_t keyEnd,
                            float *partials) {
  HWY_ALIGN float accumulated[kDecodeHeads * kAttentionMaxHeadDim];
  HWY_ALIGN float scores[kDecodeHeads * kDecodeKeys];
  RowState states[kDecodeHeads];
  const Pages<Elements> pages(shape, buffers, rows.token, rows.kvHead);
  const float *q = buffers.q + (rows.token * shape.qHeads + rows.firstHead) * shape.headDim;
  const int64_t dim = shape.valueDim;
  std::fill_n(accumulated, rows.heads * dim, 0.0f);

  for (int64_t begin = keyBegin; begin < keyEnd;) {
    // Steps end at multiples of their size, so that a window does not shift them.
    const int64_t end = std::min(keyEnd, (begin / kDecodeKeys + 1) * kDecodeKeys);
    const int64_t count = end - begin, columns = (count + kPanel - 1) / kPanel * kPanel;
    decodeScores(pages, q, rows.heads, shape.headDim, begin, count, scores);
    for (int64_t row = 0; row < rows.heads; ++row) {
      float *rowScores = scores + row * kDecodeKeys;
      std::fill(rowScores + count, rowScores + columns, 0.0f);
      scaleScores(rowScores, columns, shape.scale, shape.softcap);
      std::fill(rowScores + count, rowScores + columns, kMinusInfinity);
      const float factor = onlineSoftmax(rowScores, columns, states[row]);
      if (factor != 1.0f) {
        for (int64_t i = 0; i < dim; ++i)
          accumulated[row * dim + i] *= factor;
      }
    }
    decodeValues(pages, begin, count, dim, rows.heads, scores, accumulated);
    begin = end;
  }

  for (int64_t row = 0; row < rows.heads; ++row) {
    const int64_t head = rows.firstHead + row;
    if (!partials) {
      finishRow(states[row], sinkOf(buffers, head), accumulated + row * dim, dim,
                buffers.out + (rows.token * shape.qHeads + head) * dim);
      continue;
    }
    float *out = partials + row * shape.partialSize();
    std::copy_n(accumulated + row * dim, dim, out);
    out[dim] = states[row].greatest;
    out[dim + 1] = states[row].sum;
  }
}

template <class Elements>
HWY_INLINE void decode(const AttentionShape &shape, const AttentionBuffers &buffers,
                       const AttentionRows &rows, int64_t keyBegin, int64_t keyEnd,
                       float *partials) {
  for (int64_t done = 0; done < rows.heads; done += kDecodeHeads) {
    AttentionRows part = rows;
    part.firstHead += done;
    part.heads = std::min(kDecodeHeads, rows.heads - done);
    decodeHeads<Elements>(shape, buffers, part, keyBegin, keyEnd,
                          partials ? partials + done * shape.partialSize() : nullptr);
  }
}

void merge(const AttentionShape &shape, const AttentionBuffers &buffers, int64_t token,
           int64_t head, const float *partials, int64_t count, int64_t stride) {
  HWY_ALIGN float accumulated[kAttentionMaxHeadDim];
  const int64_t dim = shape.valueDim;
  RowState row;
  for (int64_t i = 0; i < count; ++i)
    row.greatest = std::max(row.greatest, partials[i * stride + dim]);
  std::fill_n(accumulated, dim, 0.0f);
  for (int64_t i = 0; i < count; ++i) {
    const float *part = partials + i * stride;
    const float factor = std::exp(part[dim] - row.greatest);
    row.sum += part[dim + 1] * factor;
    for (int64_t column = 0; column < dim; ++column)
      accumulated[column] += part[column] * factor;
  }
  finishRow(row, sinkOf(buffers, head), accumulated, dim,
            buffers.out + (token * shape.qHeads + head) * dim);
}

#define SLUICE_ATTENTION_VARIANT(Type)                                                             \
  void prefill##Type(const AttentionShape &shape, const AttentionBuffers &buffers,                 \
                     const AttentionRows &rows) {                                                  \
    prefill<Type##Elements>(shape, buffers, rows);                                                 \
  }                                                                                                \
  void decode##Type(const AttentionShape &shape, const AttentionBuffers &buffers,                  \
                    const AttentionRows &rows, int64_t keyBegin, int64_t keyEnd,                   \
                    float *partials) {                                                             \
    decode<Type##Elements>(shape, buffers, rows, keyBegin, keyEnd, partials);                      \
  }
SLUICE_ATTENTION_VARIANT(F32)
SLUICE_ATTENTION_VARIANT(BF16)
SLUICE_ATTENTION_VARIANT(F16)
#undef SLUICE_ATTENTION_VARIANT

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {

AttentionOps chooseAttentionOps(const std::string &cacheType) {
  if (cacheType == "bf16")
    return {SLUICE_HOST_CHOOSE(prefillBF16), SLUICE_HOST_CHOOSE(decodeBF16),
            SLUICE_HOST_CHOOSE(merge)};
  if (cacheType == "f16")
    return {SLUICE_HOST_CHOOSE(prefillF16), SLUICE_HOST_CHOOSE(decodeF16),
            SLUICE_HOST_CHOOSE(merge)};
  return {SLUICE_HOST_CHOOSE(prefillF32), SLUICE_HOST_CHOOSE(decodeF32), SLUICE_HOST_CHOOSE(merge)};
}

} // namespace sluice::host
#endif // HWY_ONCE
