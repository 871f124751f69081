//===- OrderedSum.h - Sums with one order of addition -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Floating-point addition is not associative. All backends add members' parts with this one
// function, so that the bits of a sum depend on the order of the ranks only, neither on how a
// message was cut nor on who added.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_ORDEREDSUM_H
#define SLUICE_RUNTIME_COLLECTIVES_ORDEREDSUM_H

#include <cstddef>
#include <span>

namespace sluice {

/// Elements of a tile: 4 KiB, which stays in the first-level cache beside one part.
inline constexpr size_t kSumTile = 1024;

/// tile[i] = ((parts[0][offset + i] + parts[1][offset + i]) + ...) for i < count <= kSumTile. The
/// tile overlaps no part. A result that overwrites a part is copied from the tile afterwards.
void sumTile(std::span<const float *const> parts, size_t offset, size_t count, float *tile);

/// Sums `count` elements into `result`, which may be one of the parts.
void sumInOrder(std::span<const float *const> parts, size_t count, float *result);

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_ORDEREDSUM_H
