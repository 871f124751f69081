//===- WeightFormat.h - How the numbers of a weight are stored --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A weight format is an element type plus the granularity of its scales. Plans, IR and command
// lines name it by one short string ("bf16", "f8e4m3:block128x128"); this file is the only place
// that knows the strings. Every format of the grammar parses, so that a report can talk about it,
// but only those that have a packed layout pass requirePackable(): naming another one is an error
// that says so.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_QUANT_WEIGHTFORMAT_H
#define SLUICE_RUNTIME_QUANT_WEIGHTFORMAT_H

#include "sluice/status.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::quant {

enum class ElementType : uint8_t { kF32, kBF16, kF16, kF8E4M3, kI8, kI4, kF4E2M1 };

/// Over what a scale is shared: the whole tensor, one output channel (a row of W[N, K]),
/// `blockCols` neighbours of one row, or a tile of blockRows x blockCols.
enum class ScaleScope : uint8_t { kNone, kTensor, kChannel, kGroup, kBlock };

/// What a scale is stored as.
enum class ScaleType : uint8_t { kNone, kF32, kE8M0, kE4M3 };

/// A storage format of weights. A plain value; compare with ==.
struct WeightFormat {
  ElementType element = ElementType::kF32;
  ScaleScope scope = ScaleScope::kNone;
  ScaleType scale = ScaleType::kNone;
  int32_t blockRows = 0;  ///< rows that share a scale (kBlock: tile height, kGroup: 1)
  int32_t blockCols = 0;  ///< columns that share a scale (kGroup, kBlock)
  bool zeroPoint = false; ///< groups carry a zero point beside their scale

  bool operator==(const WeightFormat &) const = default;

  bool isQuantized() const { return scope != ScaleScope::kNone; }

  /// Parses "f32", "bf16", "f16", "f8e4m3:tensor", "f8e4m3:channel", "f8e4m3:blockRxC",
  /// "i8:channel", "i4:groupG" (with zero point), "mxfp4" or "nvfp4".
  /// Fails with kInvalidArgument for any other text.
  static Result<WeightFormat> parse(std::string_view text);

  /// The text that parse() turns back into this format.
  std::string name() const;
};

/// Bits of one element, scales not counted.
int elementBits(ElementType type);

/// Bytes of one element of a type that occupies whole bytes; 0 for 4-bit types.
int elementBytes(ElementType type);

const char *elementTypeName(ElementType type);

/// Ok when this build can pack, store and multiply weights of `format`; else kUnsupported.
Status requirePackable(const WeightFormat &format);

/// parse() and requirePackable() in one.
Result<WeightFormat> parsePackable(std::string_view text);

} // namespace sluice::quant

#endif // SLUICE_RUNTIME_QUANT_WEIGHTFORMAT_H
