//===- QuantizedWeights.h - Codes and scales of an expression -----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Passes rearrange the numbers of a quantised weight; kernels stream its codes. Between the two
// somebody must see that a rearrangement of numbers is one of codes and one of scales. This is the
// only place that does: lowering asks it for the format of a weight, the artifact writer for the
// parts that it packs, and both get the same answer.
//
// What composes, for codes of a checkpoint (#moe.dequantize) and for those that the compiler makes
// (#moe.quantize) alike: slices, with or without a stride, concatenations, takes, transpositions
// and reshapes around the expression. Along rows of [..., N, K] and along all axes before them
// anything goes, because packed formats have scales per row: tiles and tensors that share a scale
// are taken apart into rows, with the values they have in the whole weight. Along columns a slice
// must keep groups (or tiles) of columns whole; a scale per row or tensor is no such group. The
// stored slice is bit for bit the slice of the stored whole.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_ANALYSIS_QUANTIZEDWEIGHTS_H
#define SLUICE_PASSES_ANALYSIS_QUANTIZEDWEIGHTS_H

#include "dialects/Moe/Moe.h"

#include <optional>
#include <string>

namespace sluice {

/// A weight [..., N, K] told apart: number = (code - zero - origin) * scale * rowScale.
struct QuantizedParts {
  mlir::TypedAttr codes;     ///< [..., N, K] of i8, ui8, i4, f8E4M3FN or f4E2M1FN
  mlir::TypedAttr scales;    ///< [..., N, ceil(K / group)], floating-point numbers
  mlir::TypedAttr zeros;     ///< of the scales' shape, i4 or ui8; null without
  mlir::TypedAttr rowScales; ///< [..., N, 1], floating-point numbers; null without
  int64_t group = 0;         ///< columns that share a scale; K when all of a row do
  int64_t origin = 0;
  std::string format; ///< name of the format that kernels read, as in quant::WeightFormat
};

/// Whether some of the weight's numbers come from codes.
bool isQuantized(mlir::TypedAttr expr);

/// The parts of a weight that can be stored in a packed quantised format; nothing when it cannot:
/// it is not quantised, converted to another type, cut across groups, mixed from different formats,
/// or no kernel of this build reads the format. Its numbers are then what there is to store.
std::optional<QuantizedParts> splitQuantized(mlir::TypedAttr expr);

} // namespace sluice

#endif // SLUICE_PASSES_ANALYSIS_QUANTIZEDWEIGHTS_H
