//===- LatentAttention.cpp - Latent attention in its absorbed form ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Three kernels: queries become queries of latents, a token's latent goes into the cache, and
// attention to latents is followed by each head's value product. Attention itself is that of other
// models with one kv head whose values are the first entries of its keys. Products of heads are
// small and independent; their parts are cut over heads, blocks of rows and panels alike.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Attention.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/Latent.h"
#include "runtime/device/host/Qkv.h"

#include <algorithm>

namespace sluice::host {
namespace {

/// Values of finished rows per part: less is done before a worker wakes up.
constexpr int64_t kGrainElements = 8 * 1024;

/// One product per head: head h of a row takes k values at x + h * xHead to n values at
/// out + h * outHead.
class HeadProducts {
public:
  struct Rows {
    const void *weights = nullptr;
    const float *x = nullptr;
    int64_t xHead = 0;
    float *out = nullptr;
    int64_t outHead = 0;
    int64_t rows = 0;
  };

  static Result<HeadProducts> create(const std::string &format, int64_t heads, int64_t n,
                                     int64_t k) {
    SLUICE_ASSIGN_OR_RETURN(auto parsed, quant::parsePackable(format));
    SLUICE_ASSIGN_OR_RETURN(auto matmul, Matmul::create(parsed, n, k));
    return HeadProducts(matmul, heads);
  }

  WorkSplit split(int64_t rows, int threads) const {
    return WorkSplit::of(heads * rowBlocksOf(rows), heads * rows, matmul.panels(), matmul.k(),
                         threads);
  }

  void runItem(const WorkSplit &split, int64_t item, const Rows &call) const {
    const int64_t panel = item % split.panelBlocks * split.panelsPerItem;
    const int64_t block = item / split.panelBlocks, blocks = rowBlocksOf(call.rows);
    const int64_t head = block / blocks, row = block % blocks * kRowBlock;
    const auto *weight =
        static_cast<const std::byte *>(call.weights) + uint64_t(head) * matmul.packed().blobBytes();
    const int64_t ldx = heads * call.xHead, ldo = heads * call.outHead;
    matmul.rows(weight, call.x + row * ldx + head * call.xHead, ldx,
                std::min(kRowBlock, call.rows - row), call.out + row * ldo + head * call.outHead,
                ldo, panel, std::min(panel + split.panelsPerItem, matmul.panels()));
  }

private:
  HeadProducts(const Matmul &matmul, int64_t heads) : matmul(matmul), heads(heads) {}

  Matmul matmul;
  int64_t heads;
};

/// The part of a rotation that all tokens share; `offset` counts from the rotary part.
TokenRotation rotationOf(const abi::RopeParams &rope, int64_t offset) {
  TokenRotation out;
  out.half = rope.dim / 2;
  out.offset = offset;
  out.interleaved = rope.interleaved;
  out.magnitude = float(rope.magnitude);
  return out;
}

class LatentQueryKernel final : public HostKernel {
public:
  LatentQueryKernel(const abi::LatentQueryParams &params, const abi::StepDims &dims,
                    const HeadProducts &products)
      : params(params), products(products), rotate(chooseRotateHeads()),
        rotation(rotationOf(params.rope, params.rope.offset - params.nope)), maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    HeadProducts::Rows call;
    call.weights = args[5];
    call.x = static_cast<const float *>(args[4]);
    call.xHead = params.nope + params.rotary;
    call.out = static_cast<float *>(args[7]);
    call.outHead = params.latent + params.rotary;
    call.rows = std::min<int64_t>(header.numTokens, maxRows);

    // Rotations are items beside the products, a few tokens each.
    const WorkSplit split = products.split(call.rows, pool.size());
    const int64_t width = std::max<int64_t>(1, params.heads * params.rotary);
    const int64_t unit = std::max<int64_t>(1, kGrainElements / width);
    const int64_t units = params.rotary > 0 ? (call.rows + unit - 1) / unit : 0;
    const int64_t items = units + split.items;
    pool.parallelFor(items, split.grain > 1 ? items : 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        if (item >= units)
          products.runItem(split, item - units, call);
        else
          for (int64_t row = item * unit; row < std::min((item + 1) * unit, call.rows); ++row)
            rotateRow(args, call, row);
      }
    });
  }

private:
  void rotateRow(void *const *args, const HeadProducts::Rows &call, int64_t row) const {
    const int64_t seq = static_cast<const int32_t *>(args[2])[row];
    TokenRotation token = rotation;
    token.position = static_cast<const int32_t *>(args[1])[row];
    token.frequencies = frequenciesOf(params.rope, static_cast<const float *>(args[6]),
                                      static_cast<const int32_t *>(args[3])[seq]);
    rotate(token, params.heads, params.rotary,
           call.x + row * params.heads * call.xHead + params.nope, call.xHead,
           call.out + row * params.heads * call.outHead + params.latent, call.outHead);
  }

  abi::LatentQueryParams params;
  HeadProducts products;
  RotateHeads *rotate;
  TokenRotation rotation;
  int64_t maxRows;
};

class LatentAppendKernel final : public HostKernel {
public:
  LatentAppendKernel(const abi::LatentAppendParams &params, const abi::StepDims &dims)
      : params(params), store(chooseStoreLatent(params.cacheType)),
        rotation(rotationOf(params.rope, params.rope.offset)), maxRows(dims.tokens),
        pagesPerSeq(dims.pagesPerSeq), pageSize(dims.pageSize),
        elementBytes(params.cacheType == "f32" ? 4 : 2) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const int64_t rows = std::min<int64_t>(header.numTokens, maxRows);
    const int64_t width = params.latent + params.rotary;
    pool.parallelFor(rows, std::max<int64_t>(1, kGrainElements / width),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t row = begin; row < end; ++row)
                         storeRow(args, row);
                     });
  }

private:
  void storeRow(void *const *args, int64_t row) const {
    const auto *pageTable = static_cast<const int32_t *>(args[4]);
    const int64_t position = static_cast<const int32_t *>(args[1])[row];
    const int64_t seq = static_cast<const int32_t *>(args[2])[row];
    const int64_t page = pageTable[seq * pagesPerSeq + position / pageSize];
    const int64_t slot = page * pageSize + position % pageSize;
    const int64_t width = params.latent + params.rotary;
    TokenRotation token = rotation;
    token.position = int32_t(position);
    token.frequencies = frequenciesOf(params.rope, static_cast<const float *>(args[7]),
                                      static_cast<const int32_t *>(args[3])[seq]);
    store(token, params.latent, params.rotary, float(params.eps),
          static_cast<const float *>(args[5]) + row * width, static_cast<const float *>(args[6]),
          static_cast<std::byte *>(args[8]) + slot * width * elementBytes);
  }

  abi::LatentAppendParams params;
  StoreLatent *store;
  TokenRotation rotation;
  int64_t maxRows, pagesPerSeq, pageSize, elementBytes;
};

class AbsorbedAttentionKernel final : public HostKernel {
public:
  AbsorbedAttentionKernel(const abi::AbsorbedAttentionParams &params, const abi::StepDims &dims,
                          const PagedAttention &attention, const HeadProducts &products)
      : params(params), attention(attention), products(products), maxRows(dims.tokens) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    AttentionBuffers buffers;
    buffers.positions = static_cast<const int32_t *>(args[1]);
    buffers.tokenSeq = static_cast<const int32_t *>(args[2]);
    buffers.pageTable = static_cast<const int32_t *>(args[5]);
    buffers.q = static_cast<const float *>(args[6]);
    buffers.keys = buffers.values = args[7];
    buffers.out = static_cast<float *>(args[10]);
    attention.run(header, buffers, static_cast<const int32_t *>(args[3]),
                  static_cast<float *>(args[11]), pool);

    HeadProducts::Rows call;
    call.weights = args[8];
    call.x = buffers.out;
    call.xHead = params.latent;
    call.out = static_cast<float *>(args[9]);
    call.outHead = params.valueDim;
    call.rows = std::min<int64_t>(header.numTokens, maxRows);
    const WorkSplit split = products.split(call.rows, pool.size());
    pool.parallelFor(split.items, split.grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item)
        products.runItem(split, item, call);
    });
  }

private:
  abi::AbsorbedAttentionParams params;
  PagedAttention attention;
  HeadProducts products;
  int64_t maxRows;
};

} // namespace

KernelResult createLatentQuery(const abi::LatentQueryParams &params, const abi::StepDims &dims) {
  SLUICE_ASSIGN_OR_RETURN(
      auto products, HeadProducts::create(params.format, params.heads, params.latent, params.nope));
  return std::make_unique<LatentQueryKernel>(params, dims, products);
}

KernelResult createLatentAppend(const abi::LatentAppendParams &params, const abi::StepDims &dims) {
  if (std::max(params.latent, params.rotary) > kQkvMaxHeadDim)
    return unsupported("latents of " + std::to_string(params.latent) + " and " +
                       std::to_string(params.rotary) + " entries exceed the host's limit " +
                       std::to_string(kQkvMaxHeadDim));
  return std::make_unique<LatentAppendKernel>(params, dims);
}

KernelResult createAbsorbedAttention(const abi::AbsorbedAttentionParams &params,
                                     const abi::StepDims &dims) {
  AttentionShape shape;
  shape.qHeads = params.heads, shape.kvHeads = 1;
  shape.headDim = shape.valueStride = params.latent + params.rotary;
  shape.valueDim = params.latent;
  shape.scale = float(params.scale);
  SLUICE_ASSIGN_OR_RETURN(auto attention, PagedAttention::create(shape, params.cacheType, dims));
  SLUICE_ASSIGN_OR_RETURN(auto products, HeadProducts::create(params.format, params.heads,
                                                              params.valueDim, params.latent));
  return std::make_unique<AbsorbedAttentionKernel>(params, dims, attention, products);
}

} // namespace sluice::host
