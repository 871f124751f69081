//===- WeightFormat.h - How the numbers of a weight are stored --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A weight format is an element type plus the granularity of its scales. Plans, IR and command
// lines name it by one short string ("bf16", "f8e4m3:group128"); this file is the only place that
// knows the strings. Every format of the grammar parses, so that a report can talk about what a
// checkpoint holds, but only those that have a packed layout pass requirePackable(): naming another
// one is an error that says what to use instead. Packed formats scale rows: a checkpoint's tiles
// and per-tensor scales are expanded to one scale per row and group of columns, because then any
// slice or concatenation of rows (q|k|v, experts, shards) is legal whatever the tiles were.
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

  /// Columns of a row that share a scale in a matrix with `k` columns: k when it is one per row.
  /// For packable quantised formats.
  int64_t groupColumns(int64_t k) const {
    return scope == ScaleScope::kGroup && blockCols < k ? blockCols : k;
  }
  /// Scales of one row of `k` columns: ceil(k / groupColumns).
  int64_t groupsPerRow(int64_t k) const { return (k - 1) / groupColumns(k) + 1; }
  /// nvfp4: the scales of a row's groups have a common float32 factor.
  bool hasRowScale() const { return scale == ScaleType::kE4M3; }

  /// Parses "f32", "bf16", "f16", "f8e4m3:tensor", "f8e4m3:blockRxC", "E:channel" and "E:groupG"
  /// for E of f8e4m3, i8 and i4 (the last with zero points), "mxfp4" (E2M1 codes, a power of two
  /// per 32 columns) or "nvfp4" (E2M1 codes, an E4M3 scale per 16 columns times a float32 per row).
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

/// The shortest group of columns that has a packed layout.
inline constexpr int32_t kMinGroupColumns = 8;

/// Ok when this build can pack, store and multiply weights of `format`; else kUnsupported, with the
/// packable format that can hold the same numbers.
Status requirePackable(const WeightFormat &format);

/// Ok for the formats of row-major tables (f32, bf16 and f16), whose rows are looked up and not
/// multiplied; else kUnsupported.
Status requireRowMajor(const WeightFormat &format);

/// parse() and requirePackable() in one.
Result<WeightFormat> parsePackable(std::string_view text);

} // namespace sluice::quant

#endif // SLUICE_RUNTIME_QUANT_WEIGHTFORMAT_H
