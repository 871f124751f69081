//===- MergeLinears.cpp - Several products of one input as one --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Fusion/MergeLinears.h"

using namespace mlir;

namespace sluice {

MergedLinears mergeLinears(ArrayRef<moe::LinearOp> linears, StringRef leaf,
                           WeightSymbols &weights) {
  SmallVector<TypedAttr> parts, biases;
  Type biasType;
  for (moe::LinearOp linear : linears) {
    parts.push_back(weights.expr(linear.getWeightAttr()));
    if (linear.getBiasAttr())
      biasType =
          cast<RankedTensorType>(weights.lookup(linear.getBiasAttr()).getType()).getElementType();
  }
  moe::LinearOp first = linears.front();
  moe::WeightOp anchor = weights.lookup(first.getWeightAttr());
  MergedLinears merged;
  merged.weight = weights.create(anchor, leaf, WeightSymbols::concat(0, parts));
  if (!biasType)
    return merged;
  for (moe::LinearOp linear : linears) {
    int64_t rows = weights.shape(linear.getWeightAttr())[0];
    TypedAttr operand;
    if (linear.getBiasAttr())
      operand = weights.expr(linear.getBiasAttr());
    biases.push_back(WeightSymbols::orZeros(operand, RankedTensorType::get({rows}, biasType)));
  }
  merged.bias = weights.create(anchor, (leaf + "_bias").str(), WeightSymbols::concat(0, biases));
  return merged;
}

} // namespace sluice
