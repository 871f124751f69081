//===- WeightNodes.h - Readable nodes of weight expressions -------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// How each kind of node turns a range of its elements into ranges of its operands. Free of MLIR:
// WeightEvaluator.cpp translates attributes into these. Arguments are already checked there.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_WEIGHTNODES_H
#define SLUICE_COMPILER_ARTIFACT_WEIGHTNODES_H

#include "compiler/artifact/SyntheticWeights.h"
#include "compiler/artifact/WeightEvaluator.h"

#include <mutex>
#include <span>
#include <vector>

namespace sluice {

using WeightNodePtr = std::shared_ptr<const WeightNode>;

/// A checkpoint tensor.
class TensorNode final : public WeightNode {
public:
  TensorNode(const Checkpoint &checkpoint, CheckpointTensor tensor, int64_t elementBytes)
      : checkpoint(checkpoint), tensor(tensor), elementBytes(elementBytes) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  const Checkpoint &checkpoint;
  CheckpointTensor tensor;
  int64_t elementBytes;
};

/// A made-up tensor: numbers, or codes of the types that hold those.
class SyntheticNode final : public WeightNode {
public:
  SyntheticNode(SyntheticTensor tensor, DataType type) : tensor(tensor), type(type) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  SyntheticTensor tensor;
  DataType type;
};

/// Elements held in memory; one element stands for all when `splat`.
class ConstantNode final : public WeightNode {
public:
  ConstantNode(std::vector<std::byte> elements, int64_t elementBytes, bool splat)
      : elements(std::move(elements)), elementBytes(elementBytes), splat(splat) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  std::vector<std::byte> elements;
  int64_t elementBytes;
  bool splat;
};

/// Operands along an axis: for each of the outer indices, `widths[i]` elements of operand i. A
/// stack is this with one outer index.
class ConcatNode final : public WeightNode {
public:
  ConcatNode(std::vector<WeightNodePtr> operands, const std::vector<int64_t> &widths,
             int64_t elementBytes);
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  std::vector<WeightNodePtr> operands;
  std::vector<int64_t> starts; ///< of each operand in a row, and the row's width
  int64_t elementBytes;
};

/// Every `stride`-th of `size` rows of `inner` elements, beginning with row `first`, of each group
/// of `extent` rows.
class SliceNode final : public WeightNode {
public:
  SliceNode(WeightNodePtr operand, int64_t extent, int64_t first, int64_t size, int64_t stride,
            int64_t inner, int64_t elementBytes)
      : operand(std::move(operand)), extent(extent), first(first), size(size), stride(stride),
        inner(inner), elementBytes(elementBytes) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  WeightNodePtr operand;
  int64_t extent, first, size, stride, inner, elementBytes;
};

/// Rows of `inner` elements by index; -1 is a row of zeros.
class TakeNode final : public WeightNode {
public:
  TakeNode(WeightNodePtr operand, std::vector<int64_t> indices, int64_t inner, int64_t elementBytes)
      : operand(std::move(operand)), indices(std::move(indices)), inner(inner),
        elementBytes(elementBytes) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  WeightNodePtr operand;
  std::vector<int64_t> indices;
  int64_t inner, elementBytes;
};

/// Permuted axes. Leading axes that stay in place are walked; each block under them is read whole
/// and kept until two others were needed, so that threads at a border do not read it again.
class TransposeNode final : public WeightNode {
public:
  TransposeNode(WeightNodePtr operand, std::span<const int64_t> operandShape,
                std::span<const int64_t> permutation, int64_t elementBytes);
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  using Block = std::shared_ptr<const std::vector<std::byte>>;
  Result<Block> block(int64_t index) const;
  template <size_t Bytes>
  void gather(const std::byte *block, int64_t begin, int64_t count, std::byte *out) const;

  WeightNodePtr operand;
  int64_t blockElements = 1, elementBytes;
  std::vector<int64_t> dims, strides; ///< of the result's axes in a block, strides in the operand

  mutable std::mutex mutex;
  mutable std::vector<std::pair<int64_t, Block>> recent; ///< guarded by mutex; latest last
};

/// Elements of another type.
class ConvertNode final : public WeightNode {
public:
  ConvertNode(WeightNodePtr operand, DataType from, DataType to)
      : operand(std::move(operand)), from(from), to(to) {}
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  WeightNodePtr operand;
  DataType from, to;
};

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_WEIGHTNODES_H
