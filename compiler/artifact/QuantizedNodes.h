//===- QuantizedNodes.h - Readable nodes of quantised weights -----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Codes become numbers here: words are taken apart, scales are spread over the rows that share
// them, and both are multiplied. All of it works on ranges, like the nodes that rearrange
// (WeightNodes.h). Codes of less than a byte take one byte each while they are in memory.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_QUANTIZEDNODES_H
#define SLUICE_COMPILER_ARTIFACT_QUANTIZEDNODES_H

#include "compiler/artifact/WeightNodes.h"

namespace sluice {

/// An operand and the type that its elements have in memory.
struct TypedNode {
  WeightNodePtr node;
  DataType type = DataType::kF32;
};

/// (code - zero - origin) * scale as float32; one scale, and one zero, per `group` neighbours of a
/// row of `columns`. zeros.node is null without zeros.
class DequantizeNode final : public WeightNode {
public:
  DequantizeNode(TypedNode codes, TypedNode scales, TypedNode zeros, int64_t columns, int64_t group,
                 int64_t origin)
      : codes(std::move(codes)), scales(std::move(scales)), zeros(std::move(zeros)),
        columns(columns), group(group), groups((columns + group - 1) / group),
        origin(float(origin)) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  TypedNode codes, scales, zeros;
  int64_t columns, group, groups;
  float origin;
};

/// Every row of `inner` elements `times` times in succession, `size` rows from each
/// ceil(size / times) of the operand.
class RepeatNode final : public WeightNode {
public:
  RepeatNode(WeightNodePtr operand, int64_t times, int64_t size, int64_t inner,
             int64_t elementBytes)
      : operand(std::move(operand)), times(times), size(size), inner(inner),
        elementBytes(elementBytes) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  WeightNodePtr operand;
  int64_t times, size, inner, elementBytes;
};

/// Rows of `size` elements of `bits` (4 or 8), each a byte, out of ceil(size / elements of a word)
/// words of `wordBytes` (1 or 4, little endian). Element j of a word is the `order[j]`-th from its
/// lowest bits.
class UnpackNode final : public WeightNode {
public:
  UnpackNode(WeightNodePtr operand, int64_t size, int wordBytes, int bits,
             std::vector<int64_t> order)
      : operand(std::move(operand)), size(size), wordBytes(wordBytes), bits(bits),
        order(std::move(order)) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  WeightNodePtr operand;
  int64_t size;
  int wordBytes, bits;
  std::vector<int64_t> order;
};

/// 1 / x of float32 elements.
class ReciprocalNode final : public WeightNode {
public:
  explicit ReciprocalNode(WeightNodePtr operand) : operand(std::move(operand)) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  WeightNodePtr operand;
};

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_QUANTIZEDNODES_H
