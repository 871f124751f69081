//===- Attention.h - Parts of the attention kernel --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The kernel decides who computes what (Attention.cpp); the SIMD code computes one part
// (AttentionSimd.cpp). Parts are cut at fixed places of a sequence, so that a row's result does
// not depend on the number of threads or on the other sequences of the batch.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_ATTENTION_H
#define SLUICE_RUNTIME_DEVICE_HOST_ATTENTION_H

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Matmul.h"
#include "runtime/device/host/ThreadPool.h"

#include <algorithm>
#include <cstdint>

namespace sluice::host {

/// Bounds of the blocks that live on a worker's stack (float32 values each).
inline constexpr int64_t kAttentionMaxHeadDim = 1024;
inline constexpr int64_t kAttentionBlockValues = 16 * 1024;

/// Constants of a layer's attention.
struct AttentionShape {
  int64_t qHeads = 0, kvHeads = 0, headDim = 0, valueDim = 0;
  int64_t valueStride = 0; ///< elements from one value to the next: more where keys hold the values
  int64_t pageSize = 0, pagesPerSeq = 0;
  int64_t window = 0, chunk = 0;
  float scale = 1, softcap = 0;
  PanelProduct *product = nullptr; ///< of float32 panels

  /// Query heads that share a kv head.
  int64_t group() const { return qHeads / kvHeads; }
  /// First key that a query at `position` sees; the last is `position` itself.
  int64_t firstKey(int64_t position) const {
    int64_t first = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
    return chunk > 0 ? std::max(first, position - position % chunk) : first;
  }
  int64_t valuePanels() const { return (valueDim + quant::kPanelRows - 1) / quant::kPanelRows; }
  /// Floats of a partial result: weighted values, greatest score, sum of weights.
  int64_t partialSize() const { return valueDim + 2; }
};

/// The buffers of one launch.
struct AttentionBuffers {
  const int32_t *positions = nullptr, *tokenSeq = nullptr, *pageTable = nullptr;
  const float *q = nullptr;
  const void *keys = nullptr, *values = nullptr;
  const float *sinks = nullptr; ///< may be null
  float *out = nullptr;
};

/// Query rows of a part: `tokens` consecutive tokens of one sequence times `heads` heads that share
/// a kv head, beginning at query head `firstHead`.
struct AttentionRows {
  int64_t token = 0, tokens = 1;
  int64_t kvHead = 0, firstHead = 0, heads = 1;
};

/// Computes all of the rows' attention, block by block of keys with a running maximum (online
/// softmax: Milakov and Gimelshein 2018; blocking: FlashAttention, Dao et al. 2022). At most
/// maxPrefillRows() rows.
using PrefillPart = void(const AttentionShape &shape, const AttentionBuffers &buffers,
                         const AttentionRows &rows);

/// Computes one token's rows over the keys [keyBegin, keyEnd). Without `partials`, finishes them
/// into the output; else stores row i's partial result at partials + i * partialSize()
/// (FlashDecoding, Dao et al. 2023).
using DecodePart = void(const AttentionShape &shape, const AttentionBuffers &buffers,
                        const AttentionRows &rows, int64_t keyBegin, int64_t keyEnd,
                        float *partials);

/// Merges `count` partial results of one query head, `stride` floats apart, in order.
using MergePart = void(const AttentionShape &shape, const AttentionBuffers &buffers, int64_t token,
                       int64_t head, const float *partials, int64_t count, int64_t stride);

struct AttentionOps {
  PrefillPart *prefill = nullptr;
  DecodePart *decode = nullptr;
  MergePart *merge = nullptr;
};

/// The SIMD variants for a cache type ("f32", "bf16", "f16").
AttentionOps chooseAttentionOps(const std::string &cacheType);

/// Attention of a step's queries, as several families use it. Immutable and thread-safe; run()
/// allocates nothing.
class PagedAttention {
public:
  /// Heads of `shape` are at most kAttentionMaxHeadDim wide; its product is filled in here.
  static Result<PagedAttention> create(AttentionShape shape, const std::string &cacheType,
                                       const abi::StepDims &dims);

  /// Computes all rows of the step. `partials` holds attentionPartials(dims) results of all query
  /// heads, partialSize() floats each.
  void run(const abi::StepHeader &header, const AttentionBuffers &buffers, const int32_t *seqStarts,
           float *partials, ThreadPool &pool) const;

private:
  struct Step;
  struct LongRow;

  PagedAttention(const AttentionShape &shape, const std::string &cacheType,
                 const abi::StepDims &dims);
  int64_t partsOf(int64_t position) const;
  bool isLong(int64_t position) const;
  AttentionRows headRows(int64_t index, int64_t token, int64_t tokens) const;
  void runShort(const Step &step, int64_t work, ThreadPool &pool) const;
  void runToken(const Step &step, int64_t token, int64_t head) const;
  void runLong(const Step &step, ThreadPool &pool) const;
  void runWave(const Step &step, const LongRow *rows, int64_t count, int64_t used,
               ThreadPool &pool) const;

  AttentionShape shape;
  AttentionOps ops;
  int64_t maxTokens, maxSeqs, slots;
  int64_t headsPerPart = 1, headParts = 1, tokensPerPart = 1;
};

/// Rows of a prefill part: as many as a product takes, while their outputs fit their block.
inline int64_t maxPrefillRows(const AttentionShape &shape) {
  int64_t width = shape.valuePanels() * quant::kPanelRows;
  return std::clamp<int64_t>(kAttentionBlockValues / width, 1, kRowBlock);
}

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_ATTENTION_H
