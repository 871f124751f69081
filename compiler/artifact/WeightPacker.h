//===- WeightPacker.h - From numbers to the bytes kernels stream --*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// All weights of a rank are one sequence of pieces of a few megabytes. Threads read and pack pieces
// ahead while one thread takes them in order, so that the output is the same however many there
// are, and memory is a handful of pieces whatever the model's size.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_WEIGHTPACKER_H
#define SLUICE_COMPILER_ARTIFACT_WEIGHTPACKER_H

#include "compiler/artifact/WeightEvaluator.h"
#include "passes/Analysis/QuantizedWeights.h"
#include "runtime/quant/PackedLayout.h"
#include "sluice/status.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// How one weight is stored. Immutable; packing different ranges from several threads is safe.
class WeightPacker {
public:
  /// `layout` is row_major, panel16 ([N, K] or [E, N, K]) or gate_up_panel16 ([2, N, K] or
  /// [E, 2, N, K]), `format` that of the stored elements. Fails when they are unknown, do not take
  /// the weight's shape, or its elements cannot be converted.
  static Result<WeightPacker> create(std::string name, WeightEvaluator weight,
                                     std::string_view layout, std::string_view format);
  /// A weight that stays quantised, in a packed layout. The format is that of the parts.
  static Result<WeightPacker> create(std::string name, const QuantizedParts &parts,
                                     const Checkpoint &checkpoint, std::string_view layout);

  const std::string &name() const { return weightName; }
  /// The numbers; the codes when the weight stays quantised.
  const WeightEvaluator &weight() const { return evaluator; }
  /// The stored elements' type when they are stored row by row; packed layouts are plain bytes.
  DataType storedType() const { return rowMajorType; }
  bool isRowMajor() const { return rowMajor; }
  uint64_t totalBytes() const;

  /// A contiguous part of the packed bytes.
  struct Piece {
    int64_t blob = 0;             ///< matrix (or pair) of a packed layout
    int64_t begin = 0, count = 0; ///< rows of it; elements when stored row by row
  };
  /// Pieces that tile the packed bytes, in their order.
  std::vector<Piece> pieces() const;

  /// Replaces `out` by the bytes of one piece.
  Status pack(const Piece &piece, std::vector<std::byte> &out) const;

private:
  WeightPacker(std::string name, WeightEvaluator weight)
      : weightName(std::move(name)), evaluator(std::move(weight)) {}
  Status checkShape(std::string_view layoutName, const quant::WeightFormat &format);
  Status packQuantizedRows(quant::PanelRole role, int64_t matrix, const Piece &piece,
                           std::vector<std::byte> &out) const;

  std::string weightName;
  WeightEvaluator evaluator;
  bool rowMajor = false;
  DataType rowMajorType = DataType::kU8;
  quant::PackedLayout layout;

  /// Beside the codes of a quantised weight.
  std::optional<WeightEvaluator> scales, zeros, rowScales;
  int64_t origin = 0;
};

/// Packs all weights in order and hands each piece to `sink` (on the calling thread). `threads`
/// workers pack ahead of it. Stops at the first error, in the order of the pieces.
Status packWeights(std::span<const WeightPacker> weights, unsigned threads,
                   const std::function<Status(const WeightPacker &weight,
                                              std::span<const std::byte> bytes)> &sink);

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_WEIGHTPACKER_H
