//===- Qkv.h - What follows the q/k/v projection of a token -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The projection of a step is one matrix product; everything after it concerns one token at a time:
// bias, norm, clip, rotation, the write of q and of the token's slot in the paged cache. This is
// the interface between the kernel, which finds pages and tables, and the SIMD code that does the
// arithmetic.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_QKV_H
#define SLUICE_RUNTIME_DEVICE_HOST_QKV_H

#include "runtime/artifact/KernelFamilies.h"

#include <cmath>
#include <cstdint>

namespace sluice::host {

/// Constants of a layer's projection. Head sizes are at most kQkvMaxHeadDim.
struct QkvShape {
  int64_t qHeads = 0, kvHeads = 0, headDim = 0, valueDim = 0, pageSize = 0;
  int64_t ropeDim = 0, ropeOffset = 0;
  bool interleaved = false;
  abi::QkNorm qkNorm = abi::QkNorm::kNone;
  float magnitude = 1, clip = 0, eps = 0;

  int64_t projected() const { return qHeads * headDim + kvHeads * (headDim + valueDim); }
};

inline constexpr int64_t kQkvMaxHeadDim = 4096;

/// One token. `projected` is its row of the product (q, k, v) and is overwritten; q [qHeads,
/// headDim] is the output; keys and values point at the token's slot of kv head 0 in the cache.
struct QkvToken {
  float *projected = nullptr;
  const float *bias = nullptr, *qNorm = nullptr, *kNorm = nullptr;
  const float *frequencies = nullptr; ///< [ropeDim / 2]
  int32_t position = 0;
  float qScale = 1;
  float *q = nullptr;
  void *keys = nullptr, *values = nullptr;
};

/// What queries at `position` (plus an offset) are multiplied with when their temperature is tuned.
inline float temperatureOf(double scale, double floor, int64_t position) {
  return float(1 + scale * std::log1p(std::floor(double(position) / floor)));
}

/// The frequencies of a token in a sequence of `length` positions: LongRoPE has a second table for
/// long ones. `table` is [rope.tables, rope.dim / 2].
inline const float *frequenciesOf(const abi::RopeParams &rope, const float *table, int64_t length) {
  return rope.tables == 2 && length > rope.switchLength ? table + rope.dim / 2 : table;
}

using FinishQkvToken = void(const QkvShape &shape, const QkvToken &token);

/// The SIMD variant for a cache type ("f32", "bf16", "f16").
FinishQkvToken *chooseFinishQkvToken(const std::string &cacheType);

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_QKV_H
