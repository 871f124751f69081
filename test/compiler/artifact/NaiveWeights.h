//===- NaiveWeights.h - Weight expressions element by element -----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The definition of every node, as slowly as it can be written: one element by its indices. What
// the evaluator computes by ranges is compared with this.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_TEST_COMPILER_ARTIFACT_NAIVEWEIGHTS_H
#define SLUICE_TEST_COMPILER_ARTIFACT_NAIVEWEIGHTS_H

#include "dialects/Moe/Moe.h"
#include "test/compiler/importers/TinyCheckpoint.h"

#include <vector>

namespace sluice::test {

/// All elements of an expression over the tensors of `checkpoint`, in row-major order, as float32.
std::vector<float> naiveValues(mlir::TypedAttr expr, const TinyCheckpoint &checkpoint);

/// The value of a code of F8_E4M3, F8_E8M0, F4, I8 or U8.
float codeValue(DataType type, uint8_t code);

/// Elements of F32, BF16, F16 or a type of codes as float32.
std::vector<float> toFloats(DataType type, const void *data, size_t count);

/// `value` rounded to the type.
float roundTo(DataType type, float value);

} // namespace sluice::test

#endif // SLUICE_TEST_COMPILER_ARTIFACT_NAIVEWEIGHTS_H
