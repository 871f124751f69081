//===- Attention.cpp - Causal attention over the paged cache ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A step mixes sequences of one token (decode) with chunks of many (prefill). Chunks are cut into
// blocks of query tokens, each with up to eight heads of a kv head's group, so that a key or value
// is fetched once for up to 96 query rows. One token of a short context is one part per block of
// heads.
// One token of a long context is cut at multiples of kAttentionSplitKeys keys; the parts' results
// meet in the scratch buffer and are merged in order by a second region. The scratch is bounded, so
// batches with more parts than it holds proceed in waves, which no result can notice.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Attention.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"

#include <algorithm>

namespace sluice::host {
namespace {

/// Multiply-adds below which forking costs more than it saves.
constexpr int64_t kForkThreshold = 64 * 1024;

/// Long decode rows of one wave; two parts or more each, so that 128 rows fill most scratches.
constexpr int64_t kWaveRows = 128;

/// Query heads of one part: more would leave threads idle where few kv heads serve many query heads
/// (latent attention has one), and a part's other rows may as well be further tokens.
constexpr int64_t kHeadsPerPart = 8;

} // namespace

/// One decode token of a long context.
struct PagedAttention::LongRow {
  int64_t token = 0, firstKey = 0, position = 0;
  int64_t firstSlot = 0, parts = 0;
};

struct PagedAttention::Step {
  AttentionBuffers buffers;
  const int32_t *seqStarts = nullptr;
  float *partials = nullptr;
  int64_t tokens = 0, seqs = 0;
};

Result<PagedAttention> PagedAttention::create(AttentionShape shape, const std::string &cacheType,
                                              const abi::StepDims &dims) {
  const int64_t widest = std::max(shape.headDim, shape.valueDim);
  if (widest > kAttentionMaxHeadDim)
    return unsupported("heads of " + std::to_string(widest) + " entries exceed the host's limit " +
                       std::to_string(kAttentionMaxHeadDim));
  SLUICE_ASSIGN_OR_RETURN(auto format, quant::parsePackable("f32"));
  shape.product = choosePanelProduct(format);
  shape.pageSize = dims.pageSize, shape.pagesPerSeq = dims.pagesPerSeq;
  return PagedAttention(shape, cacheType, dims);
}

PagedAttention::PagedAttention(const AttentionShape &shape, const std::string &cacheType,
                               const abi::StepDims &dims)
    : shape(shape), ops(chooseAttentionOps(cacheType)), maxTokens(dims.tokens), maxSeqs(dims.seqs),
      slots(abi::attentionPartials(dims)) {
  const int64_t rows = maxPrefillRows(shape);
  headsPerPart = std::min({shape.group(), rows, kHeadsPerPart});
  headParts = (shape.group() + headsPerPart - 1) / headsPerPart;
  tokensPerPart = rows / headsPerPart;
}

void PagedAttention::run(const abi::StepHeader &header, const AttentionBuffers &buffers,
                         const int32_t *seqStarts, float *partials, ThreadPool &pool) const {
  Step step;
  step.buffers = buffers;
  step.seqStarts = seqStarts;
  step.partials = partials;
  step.tokens = std::min<int64_t>(header.numTokens, maxTokens);
  step.seqs = std::min<int64_t>(header.numSeqs, maxSeqs);

  bool anyShort = false, anyLong = false;
  int64_t work = 0;
  for (int64_t seq = 0; seq < step.seqs; ++seq) {
    const int64_t first = step.seqStarts[seq], last = step.seqStarts[seq + 1] - 1;
    if (first > last)
      continue;
    if (first == last && isLong(step.buffers.positions[first])) {
      anyLong = true;
      continue;
    }
    anyShort = true;
    work += (last - first + 1) * (step.buffers.positions[last] + 1);
  }
  if (anyShort)
    runShort(step, work * shape.qHeads * (shape.headDim + shape.valueDim), pool);
  if (anyLong)
    runLong(step, pool);
}

int64_t PagedAttention::partsOf(int64_t position) const {
  return position / abi::kAttentionSplitKeys - shape.firstKey(position) / abi::kAttentionSplitKeys +
         1;
}

bool PagedAttention::isLong(int64_t position) const {
  const int64_t parts = partsOf(position);
  return parts > 1 && parts <= slots;
}

/// The query heads of part `index` of kvHeads * headParts.
AttentionRows PagedAttention::headRows(int64_t index, int64_t token, int64_t tokens) const {
  AttentionRows rows;
  rows.token = token, rows.tokens = tokens;
  rows.kvHead = index / headParts;
  const int64_t done = index % headParts * headsPerPart;
  rows.firstHead = rows.kvHead * shape.group() + done;
  rows.heads = std::min(headsPerPart, shape.group() - done);
  return rows;
}

/// Everything but long decode rows, in one region. `work` counts its multiply-adds.
void PagedAttention::runShort(const Step &step, int64_t work, ThreadPool &pool) const {
  const int64_t heads = shape.kvHeads * headParts;
  // A unit is a range of tokens, most of which begin no part; large enough that claiming units
  // costs little, small enough to share them out.
  const int64_t unit =
      std::clamp<int64_t>(step.tokens * heads / (pool.size() * 8), 1, tokensPerPart);
  const int64_t units = (step.tokens + unit - 1) / unit;
  const int64_t count = units * heads;
  pool.parallelFor(count, work < kForkThreshold ? count : 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      // Late tokens first: they see the most keys.
      const int64_t first = (units - 1 - item / heads) * unit;
      const int64_t last = std::min(first + unit, step.tokens);
      for (int64_t token = first; token < last; ++token)
        runToken(step, token, item % heads);
    }
  });
}

/// The part that begins at `token`, if one does.
void PagedAttention::runToken(const Step &step, int64_t token, int64_t head) const {
  const int64_t seq = step.buffers.tokenSeq[token];
  const int64_t start = step.seqStarts[seq], end = step.seqStarts[seq + 1];
  if (end - start == 1) {
    const int64_t position = step.buffers.positions[token];
    if (!isLong(position))
      ops.decode(shape, step.buffers, headRows(head, token, 1), shape.firstKey(position),
                 position + 1, nullptr);
  } else if ((token - start) % tokensPerPart == 0) {
    ops.prefill(shape, step.buffers, headRows(head, token, std::min(tokensPerPart, end - token)));
  }
}

void PagedAttention::runLong(const Step &step, ThreadPool &pool) const {
  LongRow rows[kWaveRows];
  int64_t count = 0, used = 0;
  for (int64_t seq = 0; seq < step.seqs; ++seq) {
    const int64_t token = step.seqStarts[seq];
    if (step.seqStarts[seq + 1] - token != 1 || !isLong(step.buffers.positions[token]))
      continue;
    LongRow row;
    row.token = token;
    row.position = step.buffers.positions[token];
    row.firstKey = shape.firstKey(row.position);
    row.parts = partsOf(row.position);
    if (count == kWaveRows || used + row.parts > slots) {
      runWave(step, rows, count, used, pool);
      count = used = 0;
    }
    row.firstSlot = used;
    rows[count++] = row;
    used += row.parts;
  }
  runWave(step, rows, count, used, pool);
}

void PagedAttention::runWave(const Step &step, const LongRow *rows, int64_t count, int64_t used,
                             ThreadPool &pool) const {
  const int64_t heads = shape.kvHeads * headParts, size = shape.partialSize();
  const int64_t slotSize = shape.qHeads * size;
  pool.parallelFor(used * heads, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t slot = item / heads;
      const LongRow &row =
          *(std::upper_bound(rows, rows + count, slot,
                             [](int64_t s, const LongRow &r) { return s < r.firstSlot; }) -
            1);
      const int64_t part = row.firstKey / abi::kAttentionSplitKeys + (slot - row.firstSlot);
      const int64_t keyBegin = std::max(row.firstKey, part * abi::kAttentionSplitKeys);
      const int64_t keyEnd = std::min(row.position + 1, (part + 1) * abi::kAttentionSplitKeys);
      const AttentionRows rowsOfPart = headRows(item % heads, row.token, 1);
      ops.decode(shape, step.buffers, rowsOfPart, keyBegin, keyEnd,
                 step.partials + slot * slotSize + rowsOfPart.firstHead * size);
    }
  });
  const int64_t grain = std::max<int64_t>(1, kForkThreshold * count / (used * shape.valueDim));
  pool.parallelFor(count * shape.qHeads, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const LongRow &row = rows[item / shape.qHeads];
      const int64_t head = item % shape.qHeads;
      ops.merge(shape, step.buffers, row.token, head,
                step.partials + row.firstSlot * slotSize + head * size, row.parts, slotSize);
    }
  });
}

namespace {

class AttentionKernel final : public HostKernel {
public:
  AttentionKernel(const PagedAttention &attention) : attention(attention) {}

  void run(void *const *args, ThreadPool &pool) const override {
    AttentionBuffers buffers;
    buffers.positions = static_cast<const int32_t *>(args[1]);
    buffers.tokenSeq = static_cast<const int32_t *>(args[2]);
    buffers.pageTable = static_cast<const int32_t *>(args[5]);
    buffers.q = static_cast<const float *>(args[6]);
    buffers.keys = args[7];
    buffers.values = args[8];
    buffers.sinks = static_cast<const float *>(args[9]);
    buffers.out = static_cast<float *>(args[10]);
    attention.run(*static_cast<const abi::StepHeader *>(args[0]), buffers,
                  static_cast<const int32_t *>(args[3]), static_cast<float *>(args[11]), pool);
  }

private:
  PagedAttention attention;
};

} // namespace

KernelResult createAttention(const abi::AttentionParams &params, const abi::StepDims &dims) {
  AttentionShape shape;
  shape.qHeads = params.qHeads, shape.kvHeads = params.kvHeads;
  shape.headDim = params.headDim, shape.valueDim = shape.valueStride = params.valueDim;
  shape.window = params.window, shape.chunk = params.chunk;
  shape.scale = float(params.scale), shape.softcap = float(params.softcap);
  SLUICE_ASSIGN_OR_RETURN(auto attention, PagedAttention::create(shape, params.cacheType, dims));
  return std::make_unique<AttentionKernel>(attention);
}

} // namespace sluice::host
