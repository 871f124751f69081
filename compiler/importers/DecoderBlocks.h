//===- DecoderBlocks.h - Parts that many families share -----------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Blocks of the size at which families still agree: grouped attention with its options, a gated
// feed-forward part by the names of its weights. They are made of ModelBuilder's blocks and hold no
// knowledge of any family; what a family does otherwise, it builds itself.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_DECODERBLOCKS_H
#define SLUICE_COMPILER_IMPORTERS_DECODERBLOCKS_H

#include "compiler/importers/ModelBuilder.h"

namespace sluice {

/// A product's weight [out, in] and its bias [out], which may be null.
struct Projection {
  mlir::FlatSymbolRefAttr weight = {}, bias = {};
};

/// Grouped attention of one layer, from the normed activations to the output projection.
/// Queries and keys are projected, normalised, clipped, rotated, divided by their length, and
/// queries scaled by their position's temperature; what is not set is left out.
struct GroupedAttention {
  AttentionSpec spec;
  Projection q = {}, k = {}, v = {}, o = {};
  moe::RopeAttr rope = {}; ///< null: positions are not encoded
  moe::QkNorm qkNorm = moe::QkNorm::None;
  mlir::FlatSymbolRefAttr qNorm = {}, kNorm = {}; ///< [head_dim], or the whole projection's width
  double qkNormEps = 0;
  double clip = 0;                                   ///< of queries, keys and values; 0 = none
  double temperatureScale = 0, temperatureFloor = 0; ///< floor 0 = no temperature
};

/// Sets q, k, v and o to the weights `<prefix>q_proj`, ... as most families name them. `hidden` is
/// the width of the layer's input and output.
void readProjections(ModelBuilder &model, GroupedAttention &attention, int64_t hidden, bool qkvBias,
                     bool outBias, llvm::StringRef prefix = "self_attn.");

mlir::Value groupedAttention(ModelBuilder &model, mlir::Value x, const GroupedAttention &attention);

/// What a family calls the three weights of a gated feed-forward part, without ".weight".
struct GatedNames {
  llvm::StringRef gate = "gate_proj", up = "up_proj", down = "down_proj";
};

/// A dense part of inner width `width`: keys `<prefix><name>.weight`, symbols `<symbol>.gate`, ...
GatedWeights readFfn(ModelBuilder &model, llvm::StringRef symbol, llvm::StringRef prefix,
                     int64_t width, int64_t hidden, const GatedNames &names = {});

/// `count` experts of inner width `width`, one tensor each: `{}` in `pattern` is the index; symbols
/// `experts.gate`, ...
GatedWeights readExperts(ModelBuilder &model, llvm::StringRef pattern, int64_t count, int64_t width,
                         int64_t hidden, const GatedNames &names = {});

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_DECODERBLOCKS_H
