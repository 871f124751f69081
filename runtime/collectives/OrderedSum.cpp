//===- OrderedSum.cpp - Sums with one order of addition ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/OrderedSum.h"

#include <algorithm>
#include <cstring>

namespace sluice {

void sumTile(std::span<const float *const> parts, size_t offset, size_t count,
             float *__restrict tile) {
  std::memcpy(tile, parts[0] + offset, count * sizeof(float));
  for (const float *part : parts.subspan(1)) {
    const float *__restrict addend = part + offset;
    for (size_t i = 0; i < count; ++i)
      tile[i] += addend[i];
  }
}

void sumInOrder(std::span<const float *const> parts, size_t count, float *result) {
  float tile[kSumTile];
  for (size_t done = 0; done < count; done += kSumTile) {
    const size_t length = std::min(kSumTile, count - done);
    sumTile(parts, done, length, tile);
    std::memcpy(result + done, tile, length * sizeof(float));
  }
}

} // namespace sluice
