//===- WeightEvaluator.h - Numbers of a weight expression ---------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Weights stay expressions over checkpoint tensors through all phases; here they become numbers, a
// range at a time, so that memory does not grow with the weight. The unit is a range of elements in
// row-major order: every node can say which ranges of its operands a range of its own is made of,
// except a transposition, which needs its (innermost) permuted block at once.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_WEIGHTEVALUATOR_H
#define SLUICE_COMPILER_ARTIFACT_WEIGHTEVALUATOR_H

#include "compiler/artifact/ElementConversion.h"
#include "compiler/importers/checkpoint/Checkpoint.h"
#include "dialects/Moe/Moe.h"
#include "runtime/base/DataType.h"
#include "sluice/status.h"

#include "llvm/ADT/DenseMap.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace sluice {

/// The type that elements of an MLIR element type have in memory, bytesInMemory() each; nothing for
/// types that weights do not have. i4 is U8: its elements are not negative.
std::optional<DataType> dataTypeOf(mlir::Type type);

/// A node of an expression that is ready to be read (WeightNodes.cpp).
class WeightNode {
public:
  virtual ~WeightNode() = default;
  /// Writes elements [begin, begin + count), in row-major order, to `out`. The range must lie
  /// inside the node. Thread-safe.
  virtual Status read(int64_t begin, int64_t count, std::byte *out) const = 0;
};

class QuantizeSource;

/// Numbers that evaluators of parts of one quantised weight share (QuantizeNodes.h), by expression
/// and format. For use by one thread; what it holds may be read from several.
using QuantizeSources =
    llvm::DenseMap<std::pair<mlir::Attribute, mlir::Attribute>, std::shared_ptr<QuantizeSource>>;

/// One expression, bound to the checkpoint that its leaves name. Borrows the checkpoint. Reading
/// from several threads is safe.
class WeightEvaluator {
public:
  /// Resolves every leaf: kNotFound for a tensor that the checkpoint lacks, kDataCorrupt for one
  /// that has not the type and shape of the expression, kUnsupported for an element type or
  /// conversion that cannot be evaluated. `shared` spares evaluators of codes and scales of one
  /// weight to choose scales twice.
  static Result<WeightEvaluator> create(mlir::TypedAttr expr, const Checkpoint &checkpoint,
                                        QuantizeSources *shared = nullptr);

  DataType dtype() const { return type; }
  const std::vector<int64_t> &shape() const { return dims; }
  int64_t numElements() const { return count; }
  int64_t elementBytes() const { return bytesInMemory(type); }

  /// Writes elements [begin, begin + count), in row-major order, to `out`.
  Status read(int64_t begin, int64_t count, std::byte *out) const;

private:
  WeightEvaluator() = default;
  DataType type = DataType::kF32;
  std::vector<int64_t> dims;
  int64_t count = 0;
  std::shared_ptr<const WeightNode> root;
};

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_WEIGHTEVALUATOR_H
